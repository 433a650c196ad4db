using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.RetryPolicies;

/// <summary>
/// One valid set of options, copied; replaced as a whole when the options reload. Asks the delegates of the options, and outlives each that
/// throws. Computes the wait: cap first, jitter after, in ticks, without floating point.
/// </summary>
internal sealed class RetrySettings
{
    private readonly ILogger? _logger;
    private readonly string _name;
    private readonly Func<Exception, bool>? _shouldRetry;
    private readonly Func<Exception, TimeSpan?>? _delayHint;
    private readonly Func<TimeSpan?>? _timeLeft;
    private readonly object[] _resultPredicates;
    private readonly object[] _resultHints;
    private readonly RetryBackoff _backoff;
    private readonly RetryJitter _jitter;
    private readonly long _baseTicks;
    private readonly long _maxTicks;
    private readonly TimeSpan _maxDelayHint;
    private readonly TimeSpan _expectedAttemptTime;

    public RetrySettings(RetryPolicyOptions options, RetryBudget budget, string name, ILogger? logger)
    {
        _logger = logger;
        _name = name;
        _shouldRetry = options.ShouldRetry;
        _delayHint = options.DelayHint;
        _timeLeft = options.TimeLeft;
        _resultPredicates = [.. options.ResultPredicates];
        _resultHints = [.. options.ResultHints];
        _backoff = options.Backoff;
        _jitter = options.Jitter;
        _baseTicks = options.BaseDelay.Ticks;
        _maxTicks = options.MaxDelay.Ticks;
        _maxDelayHint = options.MaxDelayHint;
        _expectedAttemptTime = options.ExpectedAttemptTime;
        MaxAttempts = options.MaxAttempts;
        Budget = budget;
    }

    public int MaxAttempts { get; }

    public RetryBudget Budget { get; }

    public bool JudgesResults => _resultPredicates.Length > 0;

    public bool IsRetryable(Exception exception)
    {
        if (_shouldRetry is null)
        {
            return exception is not ArgumentException;
        }

        try
        {
            return _shouldRetry(exception);
        }
        catch (Exception thrown)
        {
            Complain(thrown, nameof(RetryPolicyOptions.ShouldRetry), "the call is not retried");
            return false;
        }
    }

    /// <summary>Whether a predicate matches; null when one threw.</summary>
    public bool? IsRetryable<TResult>(TResult result)
    {
        try
        {
            foreach (object rule in _resultPredicates)
            {
                if (rule is ResultRule<TResult, bool> predicate && predicate.Ask(result))
                {
                    return true;
                }
            }

            return false;
        }
        catch (Exception thrown)
        {
            Complain(thrown, "a predicate given to RetryOn", "the call is not retried");
            return null;
        }
    }

    public TimeSpan? Hint(Exception exception)
    {
        try
        {
            return _delayHint?.Invoke(exception);
        }
        catch (Exception thrown)
        {
            Complain(thrown, nameof(RetryPolicyOptions.DelayHint), "the backoff is used");
            return null;
        }
    }

    public TimeSpan? Hint<TResult>(TResult result)
    {
        try
        {
            foreach (object rule in _resultHints)
            {
                if (rule is ResultRule<TResult, TimeSpan?> hint && hint.Ask(result) is { } delay)
                {
                    return delay;
                }
            }
        }
        catch (Exception thrown)
        {
            Complain(thrown, "a delegate given to DelayHintFor", "the backoff is used");
        }

        return null;
    }

    /// <summary>A hint that is not "never", within its limits.</summary>
    public TimeSpan Limit(TimeSpan hint) => hint < TimeSpan.Zero ? TimeSpan.Zero : hint > _maxDelayHint ? _maxDelayHint : hint;

    /// <summary>Whether a wait and the attempt after it end before the caller's deadline.</summary>
    public bool Fits(TimeSpan delay) => _timeLeft is null || Fits(delay, static timeLeft => timeLeft(), _timeLeft);

    /// <summary>As above, when the call has brought its own deadline.</summary>
    public bool Fits<TState>(TimeSpan delay, Func<TState, TimeSpan?> timeLeft, TState state)
    {
        try
        {
            return timeLeft(state) is not { } left || delay + _expectedAttemptTime < left;
        }
        catch (Exception thrown)
        {
            Complain(thrown, nameof(RetryPolicyOptions.TimeLeft), "no deadline is assumed");
            return true;
        }
    }

    /// <summary>The wait before a retry.</summary>
    /// <param name="retry">1 for the first retry.</param>
    /// <param name="previousTicks">The wait computed for the retry before, 0 for the first; becomes this one.</param>
    /// <param name="random">The source of jitter.</param>
    /// <returns>0 to <see cref="RetryPolicyOptions.MaxDelay"/>.</returns>
    public TimeSpan Backoff(int retry, ref long previousTicks, Random random)
    {
        if (_jitter == RetryJitter.Decorrelated)
        {
            // The upper end is capped, not what is drawn: otherwise most of a fleet at the cap would wait exactly the cap.
            long previous = Math.Max(previousTicks, _baseTicks);
            long upper = previous > _maxTicks / 3 ? _maxTicks : previous * 3;
            previousTicks = random.NextInt64(_baseTicks, upper + 1);
            return new TimeSpan(previousTicks);
        }

        long ticks = Math.Min(_maxTicks, _backoff switch
        {
            RetryBackoff.Constant => _baseTicks,
            RetryBackoff.Linear => _baseTicks > _maxTicks / retry ? _maxTicks : _baseTicks * retry,
            _ when _baseTicks == 0 => 0,
            _ => retry > 62 || _baseTicks > _maxTicks >> (retry - 1) ? _maxTicks : _baseTicks << (retry - 1),
        });
        previousTicks = _jitter switch
        {
            RetryJitter.Full => random.NextInt64(ticks + 1),
            RetryJitter.Equal => ticks / 2 + random.NextInt64(ticks - ticks / 2 + 1),
            _ => ticks,
        };
        return new TimeSpan(previousTicks);
    }

    private void Complain(Exception thrown, string option, string instead)
    {
        try
        {
            if (_logger is not null)
            {
                Log.DelegateThrew(_logger, thrown, _name, option, instead);
            }
        }
        catch (Exception)
        {
            // The logger itself is broken; the outcome of the call matters more.
        }
    }
}
