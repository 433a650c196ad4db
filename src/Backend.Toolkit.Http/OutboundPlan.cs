using System.Net.Sockets;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Extensions.Logging;

namespace Backend.Toolkit.Http;

/// <summary>One valid set of options, copied; replaced as a whole when the options reload. Asks the delegates of the options, and outlives each that throws.</summary>
internal sealed class OutboundPlan
{
    private readonly ILogger? _logger;
    private readonly string _name;
    private readonly TimeSpan _total;
    private readonly TimeSpan _attemptTotal;
    private readonly Func<TimeSpan?>? _totalFor;
    private readonly Func<TimeSpan?>? _attemptTotalFor;
    private readonly Func<HttpResponseMessage, bool>? _isRetryable;
    private readonly Func<HttpResponseMessage, bool>? _isFailure;
    private readonly Func<Exception, bool>? _shouldRetry;
    private readonly Func<Exception, bool>? _isFailureException;

    /// <summary>Nearly all first attempts send the same number.</summary>
    private (long Milliseconds, string Text)[] _lastBudget = [(-1, "")];

    public OutboundPlan(OutboundPolicyOptions options, RetryBudget ownRetryBudget, ILogger? logger)
    {
        _logger = logger;
        _name = options.Name ?? "";
        _total = options.Budget?.Total ?? Timeout.InfiniteTimeSpan;
        _totalFor = options.Budget?.TotalFor;
        _attemptTotal = options.Attempt?.Total ?? Timeout.InfiniteTimeSpan;
        _attemptTotalFor = options.Attempt?.TotalFor;
        _isRetryable = options.IsRetryable;
        _isFailure = options.IsFailure;
        _shouldRetry = options.Retry?.ShouldRetry;
        _isFailureException = options.CircuitBreaker?.IsFailure;
        Retries = options.Retry is not null;
        BreaksCircuits = options.CircuitBreaker is not null;
        AttachesIdempotencyKey = options.AttachIdempotencyKey;
        RequestBufferLimit = options.RequestBufferLimit;
        SendsTimeoutBudget = options.SendTimeoutBudget;
        NetworkAllowance = options.NetworkAllowance;
        CoversResponseBody = options.CoverResponseBody;

        RetryPolicyOptions retry = options.Retry ?? new RetryPolicyOptions();
        MaxAttempts = retry.MaxAttempts;
        MaxDelayHint = retry.MaxDelayHint;
        RetryOptions = new RetryPolicyOptions
        {
            Name = _name,
            MaxAttempts = retry.MaxAttempts,
            Backoff = retry.Backoff,
            BaseDelay = retry.BaseDelay,
            MaxDelay = retry.MaxDelay,
            Jitter = retry.Jitter,
            ExpectedAttemptTime = retry.ExpectedAttemptTime,
            MaxDelayHint = retry.MaxDelayHint,
            Budget = retry.Budget ?? (options.RetryBudget is null ? RetryBudget.Unlimited : ownRetryBudget),

            // What may be retried is returned with the call; what is thrown may not.
            ShouldRetry = static _ => false,
        };
        RetryOptions.RetryOn<OutboundCall>(static call => call.IsWorthRetry).DelayHintFor<OutboundCall>(static call => call.Hint);
    }

    public RetryPolicyOptions RetryOptions { get; }

    public bool Retries { get; }

    public bool BreaksCircuits { get; }

    public bool AttachesIdempotencyKey { get; }

    public int RequestBufferLimit { get; }

    public bool SendsTimeoutBudget { get; }

    public TimeSpan NetworkAllowance { get; }

    public bool CoversResponseBody { get; }

    public int MaxAttempts { get; }

    public TimeSpan MaxDelayHint { get; }

    public TimeSpan Total() => _totalFor is null ? _total : Ask(_totalFor, _total, "Budget.TotalFor");

    public TimeSpan AttemptTotal() => _attemptTotalFor is null ? _attemptTotal : Ask(_attemptTotalFor, _attemptTotal, "Attempt.TotalFor");

    public bool IsRetryable(HttpResponseMessage response)
    {
        if (_isRetryable is null)
        {
            return OutboundPolicyOptions.IsRetryableStatus(response.StatusCode);
        }

        return Ask(_isRetryable, response, nameof(OutboundPolicyOptions.IsRetryable), "the call is not retried") ?? false;
    }

    /// <summary>Null when the delegate threw.</summary>
    public bool? IsFailure(HttpResponseMessage response) => _isFailure is null
        ? (int)response.StatusCode >= 500
        : Ask(_isFailure, response, nameof(OutboundPolicyOptions.IsFailure), "the call is not counted");

    public bool IsRetryable(Exception exception, bool timedOut) => _shouldRetry is null
        ? timedOut || IsConnectionFailure(exception)
        : Ask(_shouldRetry, exception, "Retry.ShouldRetry", "the call is not retried") ?? false;

    public bool? IsFailure(Exception exception, bool timedOut) => _isFailureException is null
        ? timedOut || IsConnectionFailure(exception)
        : Ask(_isFailureException, exception, "CircuitBreaker.IsFailure", "the call is not counted");

    /// <summary>The value of <c>Timeout-Budget</c>: milliseconds, rounded down, without the way there and back.</summary>
    public string TimeoutBudgetText(TimeSpan left)
    {
        long milliseconds = Math.Max(0, (left - NetworkAllowance).Ticks / TimeSpan.TicksPerMillisecond);
        (long Milliseconds, string Text)[] last = Volatile.Read(ref _lastBudget);
        if (last[0].Milliseconds == milliseconds)
        {
            return last[0].Text;
        }

        string text = milliseconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
        Volatile.Write(ref _lastBudget, [(milliseconds, text)]);
        return text;
    }

    /// <summary>
    /// Whether reading the request's content has failed, rather than sending it: the client wraps both in the same exception, but behind what is sent there is a socket.
    /// </summary>
    public static bool IsOfContent(Exception exception) => exception is HttpRequestException { HttpRequestError: HttpRequestError.Unknown, InnerException: IOException inner }
        && inner is not HttpIOException && inner.InnerException is not SocketException;

    /// <summary>Not what is wrong with this side, or stays wrong: certificates, credentials, limits, versions.</summary>
    private static bool IsConnectionFailure(Exception exception) => exception switch
    {
        HttpRequestException request => request.HttpRequestError is HttpRequestError.Unknown or HttpRequestError.NameResolutionError or HttpRequestError.ConnectionError
            or HttpRequestError.HttpProtocolError or HttpRequestError.ResponseEnded or HttpRequestError.InvalidResponse or HttpRequestError.ProxyTunnelError,
        IOException or SocketException => true,

        // Of the connection, when it is none of ours: those have been looked at before.
        OperationCanceledException { InnerException: TimeoutException } => true,
        _ => false,
    };

    private TimeSpan Ask(Func<TimeSpan?> totalFor, TimeSpan otherwise, string option)
    {
        try
        {
            TimeSpan? total = totalFor();
            if (total is null || total >= TimeSpan.Zero || total == Timeout.InfiniteTimeSpan)
            {
                return total ?? otherwise;
            }

            Complain(null, option, "the total holds");
        }
        catch (Exception thrown)
        {
            Complain(thrown, option, "the total holds");
        }

        return otherwise;
    }

    private bool? Ask<T>(Func<T, bool> judge, T judged, string option, string instead)
    {
        try
        {
            return judge(judged);
        }
        catch (Exception thrown)
        {
            Complain(thrown, option, instead);
            return null;
        }
    }

    private void Complain(Exception? thrown, string option, string instead)
    {
        try
        {
            if (_logger is not null)
            {
                Log.DelegateFailed(_logger, thrown, _name, option, instead);
            }
        }
        catch (Exception)
        {
            // The logger itself is broken; the outcome of the call matters more.
        }
    }
}
