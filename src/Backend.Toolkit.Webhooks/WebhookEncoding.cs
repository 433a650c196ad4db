namespace Backend.Toolkit.Webhooks;

/// <summary>How a signature is written in its header.</summary>
public enum WebhookEncoding
{
    /// <summary>Hexadecimal, written in lower case, read in both.</summary>
    Hex,

    /// <summary>Base64 of RFC 4648 section 4, padded; unused bits must be zero.</summary>
    Base64,
}
