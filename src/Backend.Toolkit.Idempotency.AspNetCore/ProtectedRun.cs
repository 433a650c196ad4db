using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Primitives;

namespace Backend.Toolkit.Idempotency.AspNetCore;

/// <summary>
/// One run of a handler under a key: puts itself between handler and response, and between handler and client, takes all of that back when the handler has ended, records what came of it, and
/// only then lets it go.
/// </summary>
internal sealed class ProtectedRun : IAsyncDisposable
{
    private readonly HttpContext _context;
    private readonly HttpIdempotencyInForce.Settings _settings;
    private readonly IdempotentOperation _operation;
    private readonly bool _inTransaction;
    private readonly IHttpResponseFeature _response;
    private readonly IHttpResponseBodyFeature _body;
    private readonly IHttpUpgradeFeature? _upgrade;
    private readonly KeyValuePair<string, StringValues>[]? _outerHeaders;
    private readonly HeldStart _start;
    private readonly BufferedResponse _buffer;
    private readonly ILogger? _logger;
    private readonly IExceptionHandlerFeature? _handledOutside;
    private Exception? _notRecorded;

    public ProtectedRun(HttpContext context, HttpIdempotencyInForce.Settings settings, IdempotentOperation operation, IdempotentAttribute attribute, int cap, ILogger? logger)
    {
        _context = context;
        _settings = settings;
        _logger = logger;
        _operation = operation;
        _inTransaction = attribute.Mode == IdempotencyMode.Transaction;
        Client = context.RequestAborted;
        _response = context.Features.GetRequiredFeature<IHttpResponseFeature>();
        _body = context.Features.GetRequiredFeature<IHttpResponseBodyFeature>();
        _upgrade = context.Features.Get<IHttpUpgradeFeature>();
        _handledOutside = context.Features.Get<IExceptionHandlerFeature>();
        _outerHeaders = context.Response.Headers.Count > 0 ? [.. context.Response.Headers] : null;
        _start = new HeldStart(_response);
        _buffer = new BufferedResponse(this, _body, cap, settings.MaxBytesInMemory);
        context.Features.Set<IHttpResponseFeature>(_start);
        context.Features.Set<IHttpResponseBodyFeature>(_buffer);
        context.Features.Set(new RequestIdempotency(attribute, operation));
        context.RequestAborted = operation.CancellationToken;
        if (_upgrade is not null)
        {
            context.Features.Set<IHttpUpgradeFeature>(NoUpgrade.Instance);
        }
    }

    /// <summary>Cancelled when the client has gone, which the handler does not hear of.</summary>
    public CancellationToken Client { get; }

    public string? ContentType => _context.Response.ContentType;

    /// <summary>A commit in the middle of the handler would be half of its effects.</summary>
    public bool MayStream => !_inTransaction && !_operation.HasTransaction;

    private bool IsOurs => _operation.Status is IdempotencyStatus.Prepared or IdempotencyStatus.Started or IdempotencyStatus.Unprotected;

    public ValueTask DisposeAsync() => _buffer.ReleaseAsync();

    /// <summary>The response is to leave while the handler runs: what came of it cannot be kept, but that it ran can.</summary>
    public async ValueTask RecordEarlyAsync()
    {
        try
        {
            await _start.CallAsync().ConfigureAwait(false);
            await RecordAsync(static (status, _) => IdempotencyOutcome.Tombstone(status)).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            _notRecorded = exception;
            throw;
        }
    }

    public async Task RunAsync(RequestDelegate next)
    {
        Exception? failure = null;
        CancellationToken lifetime = _operation.CancellationToken;
        try
        {
            await next(_context).ConfigureAwait(false);
            await _buffer.FlushWriterAsync().ConfigureAwait(false);
            if (IsOurs && !_buffer.IsWritingThrough)
            {
                // As long as what is written here is held.
                await _start.CallAsync().ConfigureAwait(false);
                await _buffer.FlushWriterAsync().ConfigureAwait(false);
            }
        }
        catch (Exception exception)
        {
            failure = exception;
        }

        // Read before the operation is disposed of, which ends its token.
        bool timeIsUp = lifetime.IsCancellationRequested;
        GiveBack();
        if (_buffer.IsWritingThrough)
        {
            await _operation.DisposeAsync().ConfigureAwait(false);
            Throw(failure);
            return;
        }

        if (!IsOurs)
        {
            // The handler's transaction found out. Whatever others made of the exception, the answer is this.
            await _operation.DisposeAsync().ConfigureAwait(false);
            TakeBack();
            await IdempotencyMiddleware.AnswerAsync(_context, _settings, _operation, _logger).ConfigureAwait(false);
            return;
        }

        failure = _notRecorded ?? failure;
        if (failure is null && timeIsUp && _response.StatusCode == StatusCodes.Status499ClientClosedRequest)
        {
            // An exception handler inside took the end of the run's time for the client's leaving.
            failure = new OperationCanceledException(lifetime);
        }

        if (failure is null)
        {
            try
            {
                ThrowIfImpossible();
                // What the handler has framed itself, the server would frame once more.
                await RecordAsync((status, response) => _buffer.HasSpilled || response.Headers.TransferEncoding.Count > 0 ? IdempotencyOutcome.Tombstone(status)
                    : new IdempotencyOutcome(status, StoredResponse.Write(response.Headers, _settings.ReplayedHeaders, _buffer.Kept))).ConfigureAwait(false);
            }
            catch (Exception exception)
            {
                failure = exception;
            }
        }

        // What was not recorded is rolled back or left, before anybody is answered.
        await _operation.DisposeAsync().ConfigureAwait(false);
        if (failure is null)
        {
            TellLength();
            await _buffer.SendAsync().ConfigureAwait(false);
        }
        else if (RefusalOf(failure, timeIsUp) is { } refusal && !_response.HasStarted)
        {
            TakeBack();
            await refusal.WriteAsync(_context, _settings, retryAfter: refusal == Refusal.LeaseLost ? TimeSpan.FromSeconds(1) : null).ConfigureAwait(false);
        }
        else
        {
            _buffer.Discard();
            _start.HandOn();
            Throw(failure);
        }
    }

    private static void Throw(Exception? failure)
    {
        if (failure is not null)
        {
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
        }
    }

    /// <summary>Also a cancellation that is wrapped, as HTTP clients do.</summary>
    private static bool IsCancellation(Exception? exception) => exception switch
    {
        null => false,
        OperationCanceledException => true,
        AggregateException { InnerExceptions.Count: > 0 } several => several.InnerExceptions.All(IsCancellation),
        _ => IsCancellation(exception.InnerException),
    };

    private async ValueTask RecordAsync(Func<int, HttpResponse, IdempotencyOutcome> outcome)
    {
        HttpResponse response = _context.Response;
        int status = response.StatusCode;
        if (_operation.IsAbandoned)
        {
            return;
        }

        if (_operation.Status == IdempotencyStatus.Prepared)
        {
            if (status is >= 200 and < 300)
            {
                throw new InvalidOperationException(
                    $"The endpoint is in transaction mode and answered {status}, but began no transaction: its effects, if any, are not protected. Call context.GetIdempotentOperation().BeginTransactionAsync(connection) before them.");
            }

            // Turned down before there was any effect: a repeat is turned down again.
            return;
        }

        switch (_settings.FateOf(status))
        {
            case HttpIdempotencyInForce.Fate.Stored when _operation.HasTransaction && _context.Features.Get<IExceptionHandlerFeature>() is { } handled && handled != _handledOutside:
                // An exception handler inside answered for a handler that came to no end: what that did is rolled back, as without it.
                break;
            case HttpIdempotencyInForce.Fate.Stored:
                // Not with any token: the effect has been made.
                await _operation.CompleteAsync(outcome(status, response), CancellationToken.None).ConfigureAwait(false);
                break;
            case HttpIdempotencyInForce.Fate.Abandoned:
                await _operation.AbandonAsync(CancellationToken.None).ConfigureAwait(false);
                break;
        }
    }

    private Refusal? RefusalOf(Exception failure, bool timeIsUp) =>
        failure is IdempotencyStoreException ? Refusal.StoreDown
        : _operation.IsLeaseLost && (IsCancellation(failure) || failure is IdempotencyException { Error: IdempotencyError.LeaseLost }) ? Refusal.LeaseLost
        : timeIsUp && IsCancellation(failure) ? Refusal.OutOfTime
        : null;

    /// <summary>Puts back what was replaced.</summary>
    private void GiveBack()
    {
        _context.Features.Set(_response);
        _context.Features.Set(_body);
        _context.Features.Set<RequestIdempotency>(null);
        _context.RequestAborted = Client;
        if (_upgrade is not null)
        {
            _context.Features.Set(_upgrade);
        }
    }

    /// <summary>Leaves nothing of what the handler did to the response.</summary>
    private void TakeBack()
    {
        _buffer.Discard();
        _response.ReasonPhrase = null;
        _response.StatusCode = StatusCodes.Status200OK;
        IHeaderDictionary headers = _response.Headers;
        headers.Clear();
        foreach ((string name, StringValues value) in _outerHeaders ?? [])
        {
            headers[name] = value;
        }
    }

    /// <summary>What a server would refuse to send must not be recorded either.</summary>
    private void ThrowIfImpossible()
    {
        int status = _response.StatusCode;
        long length = _buffer.Length;
        if (length > 0 && !CanHaveBody(status))
        {
            throw new InvalidOperationException($"A response with status {status} cannot have a body, but {length} bytes were written.");
        }

        if (_response.Headers.ContentLength is { } told && told != length && CanHaveBody(status))
        {
            throw new InvalidOperationException($"Content-Length is {told}, but {length} bytes were written.");
        }
    }

    private void TellLength()
    {
        // Trailers need a body without a length in HTTP/1.1. An empty response has not started: others such as UseStatusCodePages may write one yet, to this one and to its replays.
        IHeaderDictionary headers = _response.Headers;
        if (_buffer.Length > 0 && headers.ContentLength is null && headers.TransferEncoding.Count == 0 && headers.Trailer.Count == 0 && CanHaveBody(_response.StatusCode))
        {
            headers.ContentLength = _buffer.Length;
        }
    }

    private static bool CanHaveBody(int status) => status is not (StatusCodes.Status204NoContent or StatusCodes.Status205ResetContent or StatusCodes.Status304NotModified);
}
