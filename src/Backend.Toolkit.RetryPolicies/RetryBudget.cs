namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// Bounds the retries of all policies that share it, so that retries cannot multiply the load on something that fails. Two published rules
/// (<see cref="RetryBudgetRule"/>): gRPC's throttling tokens, and a share of the recent calls with a floor. A retry that it refuses is not
/// made: the last real outcome comes out. Integer arithmetic; no number of threads overspends it. Thread-safe; nothing is ever waited
/// for, no timer runs. Cost of a call that succeeds: one volatile read (tokens, full), or one read of a coarse clock and one interlocked
/// increment (ratio). Sources: gRPC proposal A6 "client retries", section "Throttling"; Twitter Finagle's RetryBudget.
/// </summary>
public sealed class RetryBudget
{
    private readonly Lock _updating = new();
    private readonly Clock _clock;

    // One of the two is there: the rule in force. Neither: unlimited.
    private volatile TokenThrottle? _tokens;
    private volatile RequestRatio? _ratio;

    private int _exhausted;

    /// <summary>Makes a full budget.</summary>
    /// <param name="options">The options; copied.</param>
    /// <param name="timeProvider">The source of time for <see cref="RetryBudgetRule.Ratio"/>; default <see cref="TimeProvider.System"/>.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the message names all that are.</exception>
    public RetryBudget(RetryBudgetOptions options, TimeProvider? timeProvider = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        Name = options.Name ?? "";
        _clock = new Clock(timeProvider ?? TimeProvider.System);
        Update(options);
        if (Name.Length > 0)
        {
            Telemetry.Register(this);
        }
    }

    private RetryBudget() => Name = "unlimited";

    /// <summary>No budget: nothing is counted and nothing is refused.</summary>
    public static RetryBudget Unlimited { get; } = new();

    /// <summary>
    /// What is left: tokens (0 to <see cref="RetryBudgetOptions.MaxTokens"/>; retries need more than half), or the retries that the ratio allows now.
    /// <see cref="Unlimited"/>: infinity.
    /// </summary>
    public double Tokens => _tokens?.Tokens ?? _ratio?.Left ?? double.PositiveInfinity;

    /// <summary>Stays as it was first: it is the identity of the metrics.</summary>
    internal string Name { get; }

    /// <summary>
    /// Gives the budget new numbers. What was counted stays: tokens keep their share of the maximum, the ratio its calls and retries. Another
    /// <see cref="RetryBudgetOptions.Rule"/> starts full. The name stays.
    /// </summary>
    /// <param name="options">The options; copied.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">An option is out of range; the old options stay in force.</exception>
    /// <exception cref="InvalidOperationException">This is <see cref="Unlimited"/>, which all share.</exception>
    public void Update(RetryBudgetOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        if (ReferenceEquals(this, Unlimited))
        {
            throw new InvalidOperationException("RetryBudget.Unlimited has no options. Make a budget of your own: new RetryBudget(options).");
        }

        // The new rule first, then away with the old one: in between both hold, never neither.
        lock (_updating)
        {
            if (options.Rule == RetryBudgetRule.Tokens)
            {
                _tokens?.Update(options);
                _tokens ??= new TokenThrottle(options);
                _ratio = null;
            }
            else
            {
                _ratio?.Update(options);
                _ratio ??= new RequestRatio(options, _clock);
                _tokens = null;
            }
        }
    }

    /// <summary>A call begins.</summary>
    internal void OnRequest() => _ratio?.OnRequest();

    /// <summary>An attempt succeeded.</summary>
    internal void OnSuccess()
    {
        if (_tokens is { IsFull: false } tokens && tokens.OnSuccess())
        {
            Volatile.Write(ref _exhausted, 0);
        }
    }

    /// <summary>An attempt failed in a way that is worth a retry, whatever becomes of the call. Says whether the failures allow one.</summary>
    internal bool OnFailure() => _tokens?.OnFailure() ?? true;

    /// <summary>Takes one retry, or says that there is none.</summary>
    internal bool TryTake()
    {
        if (_ratio is not { } ratio)
        {
            return true;
        }

        bool taken = ratio.TryTake(out bool plenty);
        if (plenty && Volatile.Read(ref _exhausted) != 0)
        {
            Volatile.Write(ref _exhausted, 0);
        }

        return taken;
    }

    /// <summary>True once per episode: from the first refusal until the tokens are full, or half of what the ratio allows is unspent.</summary>
    internal bool IsNewlyExhausted() => Volatile.Read(ref _exhausted) == 0 && Interlocked.Exchange(ref _exhausted, 1) == 0;
}
