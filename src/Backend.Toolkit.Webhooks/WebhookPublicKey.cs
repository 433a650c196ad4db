namespace Backend.Toolkit.Webhooks;

/// <summary>A key of a public-key signature of 64 bytes that stands in a Standard Webhooks list as <c>v1a</c>. Implemented by <c>Backend.Toolkit.Webhooks.Ed25519</c>. Thread-safe.</summary>
public abstract class WebhookPublicKey
{
    /// <summary>How many bytes a signature has.</summary>
    public const int SignatureBytes = 64;

    /// <summary>Whether the private half is known.</summary>
    public abstract bool CanSign { get; }

    /// <summary>Whether the signature is right.</summary>
    /// <param name="message">What is said to be signed.</param>
    /// <param name="signature"><see cref="SignatureBytes"/> bytes.</param>
    /// <returns>False for every other signature; never throws for one.</returns>
    public abstract bool Verify(ReadOnlySpan<byte> message, ReadOnlySpan<byte> signature);

    /// <summary>Signs.</summary>
    /// <param name="message">What to sign.</param>
    /// <param name="signature"><see cref="SignatureBytes"/> bytes to write to.</param>
    /// <exception cref="InvalidOperationException">The private half is not known.</exception>
    public abstract void Sign(ReadOnlySpan<byte> message, Span<byte> signature);
}
