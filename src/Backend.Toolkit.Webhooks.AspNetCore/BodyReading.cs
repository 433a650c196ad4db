namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>How the reading of a body ended.</summary>
internal enum BodyReading
{
    Complete,
    TooLarge,
    TooSlow,
    TooMuchUnverified,
    NoFile,

    /// <summary>It stopped half-way, or is no body at all.</summary>
    Broken,
}
