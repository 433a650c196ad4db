using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.CircuitBreakers;

/// <summary>One valid set of options, copied and converted to the units of the clock. Replaced as a whole when the options reload.</summary>
internal sealed class CircuitSettings
{
    public CircuitSettings(CircuitBreakerOptions options, Clock clock, int version = 0)
    {
        options.ThrowIfInvalid();
        Version = version;
        BucketUnits = Math.Max(1, clock.ToUnits(options.Window / CallWindow.Buckets));
        MinimumThroughput = options.MinimumThroughput;
        FailureRatio = options.FailureRatio;
        ConsecutiveFailures = options.ConsecutiveFailures ?? 0;
        SlowUnits = options.SlowCallDuration is { } slow ? clock.ToUnits(slow) : 0;
        CohortUnits = options.SlowCallDuration is { } duration ? Math.Max(1, clock.ToUnits(duration / SlowCalls.CohortsPerDuration)) : 0;
        SlowCallRatio = options.SlowCallRatio;
        BreakDuration = options.BreakDuration;
        BreakGrowth = options.BreakGrowth;
        MaxBreakDuration = options.MaxBreakDuration;
        BreakJitter = options.BreakJitter;
        BreakDurationFor = options.BreakDurationFor;
        ProbeCount = options.ProbeCount;
        ProbeSuccesses = options.ProbeSuccesses;
        TimeSpan lease = TimeSpan.FromSeconds(30);
        LeaseUnits = clock.ToUnits(options.ProbeLease ?? (options.SlowCallDuration > lease ? options.SlowCallDuration.Value : lease));
        IsFailure = options.IsFailure;
        ResultPredicates = [.. options.ResultPredicates];
        Shadow = options.Shadow;
    }

    /// <summary>Counts the reloads, so that a window sees that its options are new.</summary>
    public int Version { get; }

    public long BucketUnits { get; }

    public int MinimumThroughput { get; }

    public double FailureRatio { get; }

    /// <summary>0: judge by ratio.</summary>
    public int ConsecutiveFailures { get; }

    /// <summary>0: slow calls are off.</summary>
    public long SlowUnits { get; }

    public long CohortUnits { get; }

    public double SlowCallRatio { get; }

    public TimeSpan BreakDuration { get; }

    public double BreakGrowth { get; }

    public TimeSpan MaxBreakDuration { get; }

    public double BreakJitter { get; }

    public Func<int, TimeSpan>? BreakDurationFor { get; }

    public int ProbeCount { get; }

    public int ProbeSuccesses { get; }

    public long LeaseUnits { get; }

    public Func<Exception, bool>? IsFailure { get; }

    public object[] ResultPredicates { get; }

    public bool Shadow { get; }

    public bool IsFailureResult<TResult>(TResult result)
    {
        foreach (object predicate in ResultPredicates)
        {
            if (predicate is ResultPredicate<TResult> typed && typed.IsFailure(result))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The break of the n-th opening in a row: grown, capped, then jittered. With a delegate: what holds until it has answered.</summary>
    public TimeSpan Break(int openings)
    {
        if (BreakDurationFor is not null)
        {
            return BreakDuration;
        }

        double grown = Math.Min(BreakDuration.Ticks * Math.Pow(BreakGrowth, openings - 1), MaxBreakDuration.Ticks);
        return new TimeSpan((long)(grown * (1 + BreakJitter * Random.Shared.NextDouble())));
    }
}

/// <summary>What one named circuit, or all circuits of a group, share.</summary>
internal sealed class CircuitScope(CircuitBreakerOptions options, TimeProvider timeProvider, ILogger? logger)
{
    private CircuitSettings _settings = new(options, new Clock(timeProvider));
    private long _probes;

    public Clock Clock { get; } = new(timeProvider);

    public TimeProvider TimeProvider { get; } = timeProvider;

    public ILogger? Logger { get; } = logger;

    /// <summary>Stays as it was first: it is the identity of the metrics.</summary>
    public string Name { get; } = options.Name ?? "";

    /// <summary>Gives the name of one circuit for the log; null: <see cref="Name"/>.</summary>
    public Func<CircuitBreaker, string>? Describe { get; init; }

    public CircuitSettings Settings => Volatile.Read(ref _settings);

    /// <summary>Numbers the probes of all circuits, so that no permit of an earlier round fits a later one.</summary>
    public long NextProbe() => Interlocked.Increment(ref _probes);

    public void Update(CircuitBreakerOptions options) => Volatile.Write(ref _settings, new CircuitSettings(options, Clock, Settings.Version + 1));
}
