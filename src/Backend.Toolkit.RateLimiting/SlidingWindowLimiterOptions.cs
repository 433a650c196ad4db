namespace Backend.Toolkit.RateLimiting;

/// <summary>Options of a <see cref="SlidingWindowLimiter"/>.</summary>
public class SlidingWindowLimiterOptions : LimiterOptions
{
    /// <summary>How the window is counted. Default <see cref="SlidingWindowMode.Estimate"/>.</summary>
    public SlidingWindowMode Mode { get; set; }

    internal sealed override LimitKind Kind => Mode == SlidingWindowMode.Exact ? LimitKind.Log : LimitKind.Estimate;

    /// <inheritdoc/>
    public override IEnumerable<string> Problems() => Enum.IsDefined(Mode) ? base.Problems() : base.Problems().Append(this.Problem(nameof(Mode), "Estimate or Exact", Mode));
}
