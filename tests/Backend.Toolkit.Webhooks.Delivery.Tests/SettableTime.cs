namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>A wall clock that is set by hand over timers that run, for attempts over real connections.</summary>
internal sealed class SettableTime(DateTimeOffset now) : TimeProvider
{
    public DateTimeOffset Now { get; set; } = now;

    public override DateTimeOffset GetUtcNow() => Now;
}
