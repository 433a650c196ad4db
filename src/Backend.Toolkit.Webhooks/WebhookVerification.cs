namespace Backend.Toolkit.Webhooks;

/// <summary>What a verifier found. Everything but <see cref="Valid"/> is a refusal; the reason is for logs and metrics, not for the sender of the request.</summary>
public enum WebhookVerification
{
    /// <summary>Signatures of the right form, and none is right.</summary>
    BadSignature,

    /// <summary>Signed under a key in force, and, where the scheme has timestamps, in time.</summary>
    Valid,

    /// <summary>A header that the scheme needs is not there, or empty.</summary>
    MissingHeader,

    /// <summary>A header cannot be read: an id with a dot or a blank, a timestamp that is not digits alone, no signature of a form and version that the scheme knows.</summary>
    Malformed,

    /// <summary>The timestamp is older than the tolerance. Looked at before the signature, which may be wrong too.</summary>
    Stale,

    /// <summary>The timestamp is further ahead than the tolerance. Looked at before the signature, which may be wrong too.</summary>
    FromFuture,

    /// <summary>A header is longer than 4 096 characters, or has more than 32 signatures, or more than 8 of a public key where there is one.</summary>
    HeaderTooLarge,

    /// <summary>All keys have expired or are not yet valid.</summary>
    NoKeyInForce,
}
