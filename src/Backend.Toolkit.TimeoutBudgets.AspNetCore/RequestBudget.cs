using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore;

/// <summary>
/// The budget of one request, and the gate in front of its response. The gate is open until the first byte or an explicit start wants through: in time, the response is
/// started; later, or once the client has gone, the gate is closed and swallows what the handler writes. What the handler has written and not flushed
/// stays on this side, so that it can be taken back. Without a deadline there is no gate. One thread writes at a time, as for every response; only the state is
/// shared, with the callback of the expiry.
/// </summary>
internal sealed class RequestBudget : IHttpResponseBodyFeature
{
    private const byte Open = 0;
    private const byte Started = 1;
    private const byte Closed = 2;

    private static readonly ProblemAnswer SpentAnswer = new(
        StatusCodes.Status504GatewayTimeout, "Gateway Timeout", "15.6.5", "The timeout budget of the request ran out before it was answered.");

    private readonly HttpContext _context;

    /// <summary>What the expiry uses, while the handler runs: the context is not thread-safe, not even for who only reads.</summary>
    private readonly IHttpResponseFeature _response;
    private readonly IHttpRequestLifetimeFeature _lifetime;
    private readonly CancellationToken _client;
    private readonly TimeoutBudget _budget;
    private readonly TimeProvider _timeProvider;
    private readonly KeyValuePair<string, StringValues>[]? _outerHeaders;

    private EndpointBudget? _endpoint;

    /// <summary>The budgets of endpoints that were not known at first, each inside the one before.</summary>
    private List<TimeoutBudget>? _shorter;

    /// <summary>The innermost, whose deadline is the first.</summary>
    private volatile TimeoutBudget _current;

    private CancellationTokenRegistration _watch;
    private CancellationTokenRegistration _shorterWatch;

    /// <summary>Null without a gate.</summary>
    private IHttpResponseBodyFeature? _inner;

    private GatedStream? _stream;
    private GatedWriter? _writer;

    /// <summary>Changed by compare-and-swap only: the handler that starts and the expiry that closes may meet.</summary>
    private byte _state;

    private volatile bool _aborted;
    private volatile bool _completed;
    private volatile bool _ended;
    private bool _failed;
    private Outcome _outcome;
    private bool _mayAskForNoRetry;
    private KeyValuePair<string, StringValues>[]? _answerHeaders;

    public RequestBudget(HttpContext context, TimeoutBudget budget, EndpointBudget? endpoint, TimeProvider timeProvider)
    {
        _context = context;
        _budget = _current = budget;
        _endpoint = endpoint;
        _timeProvider = timeProvider;
        _client = context.RequestAborted;
        _response = context.Features.GetRequiredFeature<IHttpResponseFeature>();
        _lifetime = context.Features.GetRequiredFeature<IHttpRequestLifetimeFeature>();
        context.RequestAborted = budget.Token;
        context.Features.Set(this);
        if (!context.Response.HasStarted)
        {
            _outerHeaders = CopyHeaders();

            // The first one registered is the last one called.
            context.Response.OnStarting(static budget => ((RequestBudget)budget).OnStarting(), this);
        }

        PutGate();
    }

    private enum Outcome : byte
    {
        /// <summary>Whatever the handler did goes on.</summary>
        Passed,
        Expired,
        ClientClosed,
    }

    public Stream Stream => _stream ??= new GatedStream(this);

    public PipeWriter Writer => _writer ??= new GatedWriter(this);

    /// <summary>What is behind the gate. Only read where there is one.</summary>
    internal IHttpResponseBodyFeature Inner => _inner!;

    /// <summary>Whether the response is under way, so that nothing can be taken back any more.</summary>
    internal bool IsStarted => Volatile.Read(ref _state) == Started;

    internal bool IsClosed => Volatile.Read(ref _state) == Closed;

    public bool Has(EndpointBudget endpoint) => _endpoint == endpoint;

    /// <summary>For an endpoint that was not known when the budget was started: a further budget inside. The caller is an async method that goes on to the endpoint.</summary>
    public void Shorten(EndpointBudget? endpoint)
    {
        if (endpoint is null || Has(endpoint))
        {
            return;
        }

        _endpoint = endpoint;
        var shorter = TimeoutBudget.Start(endpoint.Maximum, _budget.Name, _timeProvider);
        (_shorter ??= []).Add(shorter);
        _current = shorter;
        _context.RequestAborted = shorter.Token;
        PutGate();
        _shorterWatch.Dispose();
        _shorterWatch = WatchExpiry(shorter);
    }

    /// <summary>From now on a started response is aborted when the time is up, even when the handler does nothing any more.</summary>
    public void Watch() => _watch = WatchExpiry(_budget);

    /// <summary>Decides what becomes of the request, when the handler has returned or failed.</summary>
    /// <returns>Whether the failure is explained by it, and goes no further.</returns>
    public bool Settle(Exception? failure)
    {
        bool cancelled = failure is null || IsCancellation(failure);
        bool cut = cancelled || failure is IOException;
        if (cut && !_aborted && !_completed && _client.IsCancellationRequested)
        {
            // A client that has all that it wants may go before the handler has returned.
            _outcome = failure is null && _context.Response.HasStarted ? Outcome.Passed : Outcome.ClientClosed;
        }
        else if ((cancelled || (cut && _aborted)) && !_completed && (_current.IsExpired || (failure is null && !TryFinish())))
        {
            _outcome = Outcome.Expired;
        }

        _failed = failure is not null;
        return _outcome != Outcome.Passed;
    }

    /// <summary>Puts back all that was replaced, and ends the budget.</summary>
    public void End()
    {
        // Each waits for a callback that is running: none may abort the next request on the connection.
        _watch.Dispose();
        _shorterWatch.Dispose();
        _mayAskForNoRetry = AsksForNoRetry();
        _ended = true;
        Telemetry.Ended(_current, _outcome switch { Outcome.Expired => "expired", Outcome.ClientClosed => "client-closed", _ => "passed" });
        for (int i = _shorter?.Count ?? 0; i > 0; i--)
        {
            _shorter![i - 1].Dispose();
        }

        _budget.Dispose();
        _context.RequestAborted = _client;
        _context.Features.Set<RequestBudget>(null);
        if (_inner is null)
        {
            return;
        }

        bool keeps = _outcome == Outcome.Passed && !_failed;
        if (keeps)
        {
            _writer?.HandOn();
        }
        else
        {
            Interlocked.CompareExchange(ref _state, Closed, Open);
        }

        if (!keeps || ReferenceEquals(_context.Features.Get<IHttpResponseBodyFeature>(), this))
        {
            _context.Features.Set(_inner);
        }
    }

    /// <summary>Answers in place of the handler, unless what that did goes on.</summary>
    public Task AnswerAsync()
    {
        bool started = _context.Response.HasStarted;
        switch (_outcome)
        {
            case Outcome.ClientClosed:
                Telemetry.ClientClosed(_budget.Name);
                if (!started)
                {
                    PutHeaders(_outerHeaders);
                    _context.Response.StatusCode = StatusCodes.Status499ClientClosedRequest;
                }

                break;
            case Outcome.Expired when started || IsStarted:
                Telemetry.Expired(_budget.Name, aborted: true);
                Abort();
                break;
            case Outcome.Expired:
                Telemetry.Expired(_budget.Name, aborted: false);
                PutHeaders(_outerHeaders);
                if (_context.Features.Get<IHttpResponseTrailersFeature>() is { Trailers: { IsReadOnly: false } trailers })
                {
                    trailers.Clear();
                }

                // The last one registered is the first one called: it sees the answer before callbacks that the handler has left behind.
                _context.Response.OnStarting(
                    static budget =>
                    {
                        ((RequestBudget)budget)._answerHeaders = ((RequestBudget)budget).CopyHeaders() ?? [];
                        return Task.CompletedTask;
                    },
                    this);
                return SpentAnswer.WriteAsync(_context);
        }

        return Task.CompletedTask;
    }

    public void DisableBuffering() => Inner.DisableBuffering();

    public Task StartAsync(CancellationToken cancellationToken = default) => TryPass() ? Inner.StartAsync(cancellationToken) : Task.CompletedTask;

    public Task SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken = default) =>
        TryPass() ? Inner.SendFileAsync(path, offset, count, cancellationToken) : Task.CompletedTask;

    public Task CompleteAsync() => TryPassLast(null) ? Inner.CompleteAsync() : Task.CompletedTask;

    /// <summary>Whether the handler may write to what is behind the gate. If so, what it has written and not flushed is there already.</summary>
    internal bool TryPass()
    {
        bool late = !_ended && (_current.IsExpired || _client.IsCancellationRequested);
        byte state = Interlocked.CompareExchange(ref _state, late ? Closed : Started, Open);
        if (state == Closed || late)
        {
            if (state == Started)
            {
                AbortIfExpired();
            }

            return false;
        }

        _writer?.HandOn();
        return true;
    }

    /// <summary>As <see cref="TryPass"/>, for the end of the response. One that is whole has nothing left that an expiry could cut.</summary>
    internal bool TryPassLast(Exception? failure)
    {
        bool passes = TryPass();
        _completed |= passes && failure is null;
        return passes;
    }

    /// <summary>Also a cancellation that is wrapped, as HTTP clients do.</summary>
    private static bool IsCancellation(Exception? exception) => exception switch
    {
        null => false,
        OperationCanceledException => true,
        AggregateException { InnerExceptions.Count: > 0 } several => several.InnerExceptions.All(IsCancellation),
        _ => IsCancellation(exception.InnerException),
    };

    private void PutGate()
    {
        if (_inner is null && _current.Total != TimeSpan.MaxValue)
        {
            _inner = _context.Features.GetRequiredFeature<IHttpResponseBodyFeature>();
            _context.Features.Set<IHttpResponseBodyFeature>(this);
        }
    }

    private CancellationTokenRegistration WatchExpiry(TimeoutBudget budget) => budget.Total == TimeSpan.MaxValue ? default : budget.Token.UnsafeRegister(
        static budget => ((RequestBudget)budget!).OnExpiry(), this);

    /// <summary>On the thread pool; or, when the client has gone, where that was found out.</summary>
    private void OnExpiry()
    {
        if (_current.IsExpired && (Interlocked.CompareExchange(ref _state, Closed, Open) == Started || _response.HasStarted))
        {
            AbortIfExpired();
        }
    }

    private void AbortIfExpired()
    {
        if (!_ended && !_completed && !_client.IsCancellationRequested && _current.IsExpired)
        {
            Abort();
        }
    }

    private void Abort()
    {
        // Before the token of the client fires, which this does too.
        _aborted = true;
        _lifetime.Abort();
    }

    /// <summary>The handler has returned in time: no expiry cuts its response from now on, unless one was faster.</summary>
    private bool TryFinish()
    {
        _completed = true;
        return Interlocked.CompareExchange(ref _state, Started, Open) != Closed;
    }

    private bool AsksForNoRetry() => _current.IsExpired || _budget.RetriesExhausted;

    private Task OnStarting()
    {
        HttpResponse response = _context.Response;
        if (_answerHeaders is not null)
        {
            PutHeaders(_answerHeaders);
            response.StatusCode = StatusCodes.Status504GatewayTimeout;
        }

        if (response.StatusCode is StatusCodes.Status502BadGateway or StatusCodes.Status503ServiceUnavailable or StatusCodes.Status504GatewayTimeout
            && (_ended ? _mayAskForNoRetry : AsksForNoRetry()))
        {
            response.Headers[TimeoutBudgetMiddleware.NoRetryHeader] = "1";
        }

        return Task.CompletedTask;
    }

    private KeyValuePair<string, StringValues>[]? CopyHeaders()
    {
        IHeaderDictionary headers = _context.Response.Headers;
        return headers.Count > 0 ? [.. headers] : null;
    }

    /// <summary>Leaves these headers and no other.</summary>
    private void PutHeaders(KeyValuePair<string, StringValues>[]? wanted)
    {
        IHeaderDictionary headers = _context.Response.Headers;
        headers.Clear();
        foreach ((string name, StringValues value) in wanted ?? [])
        {
            headers[name] = value;
        }

        if (_context.Features.Get<IHttpResponseFeature>() is { } response)
        {
            response.ReasonPhrase = null;
        }
    }
}
