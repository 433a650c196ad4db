namespace Backend.Toolkit.RateLimiting;

/// <summary>A charge that is taken back.</summary>
/// <param name="Permits">What it charged.</param>
/// <param name="Instant">When.</param>
/// <param name="After">The word that it left.</param>
/// <param name="RefundedSince">At most how many permits of other charges were taken back since.</param>
internal readonly record struct PastCharge(int Permits, long Instant, long After, long RefundedSince);
