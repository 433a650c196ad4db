namespace Backend.Toolkit.RateLimiting;

/// <summary>What became of an attempt to charge a slot.</summary>
internal enum Charge
{
    Admitted,
    Refused,

    /// <summary>The slot is not, or not any more, the key's, or is being moved: look the key up again.</summary>
    Lost,
}
