using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Runtime.ExceptionServices;
using Backend.Toolkit.TimeoutBudgets;

namespace Backend.Toolkit.Http;

/// <summary>What is known about one call while it runs. Used by one flow at a time: attempts never overlap.</summary>
internal sealed class OutboundCall
{
    private readonly OutboundPolicyHandler _handler;
    private readonly long _start;

    // As they were when the call began: a redirect changes the request.
    private readonly Uri? _uri;
    private HttpContent? _content;
    private readonly string? _authorization;

    /// <summary>What the server is told that is left; null: no deadline.</summary>
    private string? _timeoutBudget;

    /// <summary>One that no response can give stands for none: a nullable would take as much again.</summary>
    private TimeSpan _hint;

    /// <summary>When the running attempt began, from the start of the call.</summary>
    private TimeSpan _began;

    private bool _contentIsOnce;

    /// <summary>Whether what the server was told is the attempt's own time, which is less than the call has.</summary>
    private bool _toldAttempt;

    /// <summary>Whether more than nothing of the total has gone: the first attempt of most calls need not look at the clock.</summary>
    private bool _isUnderWay;

    public OutboundCall(
        OutboundPlan plan, OutboundPolicyHandler handler, HttpRequestMessage request, CancellationToken callerToken)
    {
        Plan = plan;
        _handler = handler;
        Request = request;
        CallerToken = callerToken;
        Method = request.Method;
        _uri = request.RequestUri;
        _content = request.Content;
        MaxAttempts = plan.Retries ? plan.MaxAttempts : 1;
        Total = plan.Total();
        bool? safe = null;

        // Asking makes the options (104 bytes) when the caller has not: there is no other way to see whether there are any.
        if (((IReadOnlyDictionary<string, object?>)request.Options).Count > 0)
        {
            ReadOptions(request.Options, ref safe);
        }

        if (plan.AttachesIdempotencyKey && (Method == HttpMethod.Post || Method == HttpMethod.Patch) && !request.Headers.NonValidated.Contains(Wire.IdempotencyKey))
        {
            request.Headers.TryAddWithoutValidation(Wire.IdempotencyKey, Wire.NewIdempotencyKey());
        }

        MayRetry = plan.Retries && (safe ?? IsSafe(request));
        if (request.Headers.NonValidated.Count > 0 && request.Headers.NonValidated.TryGetValues("Authorization", out HeaderStringValues credentials))
        {
            _authorization = credentials.ToString();
        }

        _start = Policy.TimeProvider.GetTimestamp();
    }

    public OutboundPolicy Policy => _handler.Policy;

    public OutboundPlan Plan { get; }

    public HttpRequestMessage Request { get; }

    public CancellationToken CallerToken { get; }

    public HttpMethod Method { get; }

    public HttpAuthority? Authority => _uri is { IsAbsoluteUri: true } ? HttpAuthority.Of(_uri) : null;

    public TimeSpan Total { get; private set; }

    public int MaxAttempts { get; private set; }

    /// <summary>Whether the request may be sent again at all.</summary>
    public bool MayRetry { get; private set; }

    public int Attempts { get; private set; }

    /// <summary>Whether the running attempt ends at the deadline of the call, not at one of its own.</summary>
    public bool IsLimitedByTotal { get; private set; }

    /// <summary>The time of the running attempt.</summary>
    public TimeSpan Limit { get; private set; }

    /// <summary>The response of the last attempt, if it had one.</summary>
    public HttpResponseMessage? Response { get; private set; }

    /// <summary>The exception of the last attempt, if it may be retried.</summary>
    public ExceptionDispatchInfo? Error { get; private set; }

    /// <summary>Whether the last attempt ended in what is worth another.</summary>
    public bool IsWorthRetry { get; private set; }

    /// <summary>When the server wants to be asked again; infinite: not in this call.</summary>
    public TimeSpan? Hint => _hint == TimeSpan.MinValue ? null : _hint;

    /// <summary>Whether the last answer says that the other side works.</summary>
    public bool IsSuccess { get; private set; }

    /// <summary>The server said that calling again is useless.</summary>
    public bool IsToldNever { get; set; }

    /// <summary>The task of the last attempt.</summary>
    public Task<HttpResponseMessage>? Sent { get; private set; }

    public TimeSpan Elapsed => Policy.TimeProvider.GetElapsedTime(_start);

    public bool IsSpent => Total != Timeout.InfiniteTimeSpan && Elapsed >= Total;

    /// <summary>Whether the budget around the call is spent, or was cancelled.</summary>
    public static bool IsAmbientOver => TimeoutBudget.Current is { } ambient && (ambient.IsExpired || ambient.Token.IsCancellationRequested);

    /// <summary>Whether all that the server was told is over, and the call still has time: it can only have answered because its budget was spent.</summary>
    public bool IsAttemptOver => _toldAttempt && Elapsed - _began >= Limit - Plan.NetworkAllowance;

    /// <summary>Whether the server was told that there is no time left.</summary>
    public bool ToldZero => _timeoutBudget == "0";

    public string WhyNotRetried => _contentIsOnce
        ? " It was not retried: its content cannot be sent twice."
        : IsToldNever ? " The server says that retrying is useless." : "";

    /// <summary>The content cannot be sent twice.</summary>
    public void SendOnce()
    {
        MayRetry = false;
        _contentIsOnce = true;
    }

    /// <summary>The content was read, as far as it is small; that took time.</summary>
    public void Buffered(BufferedContent content)
    {
        Request.Content = _content = content;
        _isUnderWay = true;
        if (!content.IsWhole)
        {
            SendOnce();
        }
    }

    /// <summary>What is left of the call's budget and of the ambient one; null when neither has a deadline.</summary>
    public TimeSpan? TimeLeft()
    {
        TimeSpan? ambient = TimeoutBudget.TimeLeft();
        if (Total == Timeout.InfiniteTimeSpan)
        {
            return ambient;
        }

        TimeSpan left = Total - Elapsed;
        return ambient < left ? ambient : left;
    }

    /// <summary>Sets the time of the attempt about to start.</summary>
    /// <returns>Whether there is any: false when the call's budget is spent.</returns>
    public bool TryBegin()
    {
        TimeSpan left = Total;
        if (_isUnderWay)
        {
            _began = Elapsed;
            left = Total == Timeout.InfiniteTimeSpan ? Total : Total - _began;
        }

        _isUnderWay = true;

        if (left <= TimeSpan.Zero && left != Timeout.InfiniteTimeSpan)
        {
            return false;
        }

        TimeSpan limit = Plan.AttemptTotal();
        IsLimitedByTotal = left != Timeout.InfiniteTimeSpan && (limit == Timeout.InfiniteTimeSpan || left <= limit);
        Limit = IsLimitedByTotal ? left : limit;
        if (Plan.SendsTimeoutBudget)
        {
            TimeSpan? told = TimeoutBudget.TimeLeft();
            bool byAmbient = Limit == Timeout.InfiniteTimeSpan || told < Limit;
            told = byAmbient ? told : Limit;
            _toldAttempt = !byAmbient && !IsLimitedByTotal;
            _timeoutBudget = told is null ? null : Plan.TimeoutBudgetText(told.Value);
        }

        return true;
    }

    public void Answered(HttpResponseMessage response, bool isSuccess)
    {
        Response = response;
        IsWorthRetry = false;
        IsSuccess = isSuccess;
    }

    public void Failed(HttpResponseMessage response, TimeSpan? hint)
    {
        Response = response;
        _hint = hint ?? TimeSpan.MinValue;
        IsWorthRetry = true;
    }

    public void Failed(ExceptionDispatchInfo error)
    {
        Error = error;
        _hint = TimeSpan.MinValue;
        IsWorthRetry = true;
    }

    /// <summary>Whether there is an outcome, which then stands: there is no other attempt.</summary>
    public bool Stays()
    {
        _hint = Timeout.InfiniteTimeSpan;
        return Attempts > 0;
    }

    /// <summary>Makes the request ready, and sends it.</summary>
    public Task<HttpResponseMessage> Send(CancellationToken cancellationToken)
    {
        HttpRequestHeaders headers = Request.Headers;
        if (headers.NonValidated.Count > 0)
        {
            // Ours may be there from the attempt before; or from a call before, when somebody above sends the same message again.
            bool sentBefore = Attempts > 0 || _timeoutBudget is null;
            if (Plan.SendsTimeoutBudget)
            {
                sentBefore |= headers.Remove(Wire.TimeoutBudget);
            }

            if (sentBefore)
            {
                headers.Remove(Wire.RetryAttempt);
            }
        }

        Attempts++;
        if (Attempts > 1)
        {
            Restore();
            headers.TryAddWithoutValidation(Wire.RetryAttempt, Attempts.ToString(CultureInfo.InvariantCulture));
        }

        if (_timeoutBudget is not null)
        {
            headers.TryAddWithoutValidation(Wire.TimeoutBudget, _timeoutBudget);
        }

        return Sent = _handler.SendOnceAsync(Request, cancellationToken);
    }

    /// <summary>Reading the body counts against the budget too. Not what is no body: a connection that was switched to something else.</summary>
    public void CoverBody(string name)
    {
        if (!Plan.CoversResponseBody || Response is not { } response || response.StatusCode == HttpStatusCode.SwitchingProtocols || Method == HttpMethod.Connect)
        {
            return;
        }

        TimeSpan end = Total == Timeout.InfiniteTimeSpan ? TimeSpan.MaxValue : Total;
        if (TimeoutBudget.TimeLeft() is { } ambient && ambient < TimeSpan.MaxValue - Elapsed && Elapsed + ambient < end)
        {
            end = Elapsed + ambient;
        }

        if (end != TimeSpan.MaxValue && !Wire.IsEmpty(response.Content))
        {
            response.Content = new BudgetedContent(response.Content, name, Policy.TimeProvider, _start, end);
        }
    }

    public void MarkExhausted()
    {
        if (Authority is { } authority)
        {
            TimeoutBudget.Current?.MarkRetriesExhausted(authority.ToString());
        }
    }

    public void ClearExhausted()
    {
        if (Authority is { } authority && TimeoutBudget.Current is { RetriesExhausted: true } budget)
        {
            budget.ClearRetriesExhausted(authority.ToString());
        }
    }

    private static bool IsSafe(HttpRequestMessage request)
    {
        HttpMethod method = request.Method;
        return method == HttpMethod.Get || method == HttpMethod.Head || method == HttpMethod.Put || method == HttpMethod.Delete
            || method == HttpMethod.Options || method == HttpMethod.Trace
            || ((method == HttpMethod.Post || method == HttpMethod.Patch)
                && request.Headers.NonValidated.TryGetValues(Wire.IdempotencyKey, out HeaderStringValues key) && key.ToString().Length > 0);
    }

    private void ReadOptions(HttpRequestOptions options, ref bool? safe)
    {
        if (options.TryGetValue(OutboundRequest.Total, out TimeSpan total))
        {
            Total = total >= TimeSpan.Zero || total == Timeout.InfiniteTimeSpan
                ? total
                : throw new ArgumentOutOfRangeException(OutboundRequest.Total.Key, total, "The total of a request must be zero, greater than 0, or Timeout.InfiniteTimeSpan.");
        }

        if (options.TryGetValue(OutboundRequest.MaxAttempts, out int attempts))
        {
            MaxAttempts = attempts is >= 1 and <= 100
                ? attempts
                : throw new ArgumentOutOfRangeException(OutboundRequest.MaxAttempts.Key, attempts, "The attempts of a request must be between 1 and 100.");
        }

        if (options.TryGetValue(OutboundRequest.NoRetry, out bool once) && once)
        {
            MaxAttempts = 1;
        }

        if (options.TryGetValue(OutboundRequest.SafeToRetry, out bool told))
        {
            safe = told;
        }
    }

    /// <summary>A redirect inside the attempt before has changed the request.</summary>
    private void Restore()
    {
        Response?.Dispose();
        Response = null;
        Error = null;
        Request.RequestUri = _uri;
        Request.Method = Method;
        Request.Content = _content;
        if (_authorization is not null && !Request.Headers.NonValidated.Contains("Authorization"))
        {
            Request.Headers.TryAddWithoutValidation("Authorization", _authorization);
        }
    }
}
