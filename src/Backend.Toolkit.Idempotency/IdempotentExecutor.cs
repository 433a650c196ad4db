using System.Buffers;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Backend.Toolkit.Idempotency;

/// <summary>
/// Runs an action once for each key and answers repeats with the outcome of that run. Lease mode (<c>ExecuteAsync</c>): one <i>recorded</i> outcome; an effect is repeated only
/// after a kill or a lost lease, and then with the same <see cref="IdempotentOperation.DownstreamKey"/>. Transaction mode (<c>ExecuteInTransactionAsync</c>): one committed effect.
/// An action that throws leaves its claim until the lease ends, or rolls its transaction back. Thread-safe; costs two calls of the store, one for a repeat.
/// Fences after M. Kleppmann, "How to do distributed locking" (2016); recovery points after B. Leach, "Implementing Stripe-like idempotency keys in Postgres" (2017).
/// </summary>
public sealed partial class IdempotentExecutor
{
    private const int LongestKey = 255;

    private static SearchValues<char> UuidCharacters { get; } = SearchValues.Create("-0123456789ABCDEFabcdef");

    private readonly ILogger _logger;
    private volatile ExecutorSettings _settings;
    private int _storeDown;

    /// <summary>An executor over a store.</summary>
    /// <param name="store">Where the records are.</param>
    /// <param name="options">What holds.</param>
    /// <param name="timeProvider">For heartbeats, waits and the age of keys. Default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears of outages and lost leases.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the message tells all of them.</exception>
    public IdempotentExecutor(IIdempotencyStore store, IdempotencyOptions options, TimeProvider? timeProvider = null, ILogger<IdempotentExecutor>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        Store = store;
        Name = options.Name;
        Time = timeProvider ?? TimeProvider.System;
        _logger = logger ?? NullLogger<IdempotentExecutor>.Instance;
        _settings = new ExecutorSettings(options);
    }

    /// <summary>Where the records are.</summary>
    public IIdempotencyStore Store { get; }

    /// <summary>The name in the options.</summary>
    public string Name { get; }

    /// <summary>How long outcomes are kept, now.</summary>
    public TimeSpan Retention => _settings.Retention;

    /// <summary>The largest content that is kept, now; a larger one leaves a tombstone.</summary>
    public int MaxOutcomeBytes => _settings.MaxOutcomeBytes;

    internal TimeProvider Time { get; }

    internal ILogger Logger => _logger;

    /// <summary>Gives the live executor other options. Operations that were begun go on under the old ones.</summary>
    /// <param name="options">The new options; <see cref="IdempotencyOptions.Name"/> stays what it was.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the old ones stay in force.</exception>
    public void Update(IdempotencyOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _settings = new ExecutorSettings(options);
    }

    /// <summary>What is wrong with a key: it has 1 to 255 characters (UTF-16), none of them a control character.</summary>
    /// <param name="key">The key, without quotes or escapes.</param>
    /// <returns>A sentence, which does not repeat the key; null when nothing is wrong.</returns>
    public static string? KeyProblem(string? key)
    {
        if (string.IsNullOrEmpty(key))
        {
            return "An idempotency key must have 1 to 255 characters, but this one is empty.";
        }

        if (key.Length > LongestKey)
        {
            return ValidOptions.Invariant($"An idempotency key must have 1 to 255 characters, but this one has {key.Length}.");
        }

        foreach (char character in key)
        {
            if (char.IsControl(character))
            {
                return ValidOptions.Invariant($"An idempotency key must have no control characters, but this one has U+{(int)character:X4}.");
            }
        }

        return null;
    }

    /// <summary>
    /// Lease mode, for who records outcomes of their own kind, such as a middleware: claims the key, waiting for another run where <see cref="IdempotencyOptions.Duplicates"/> says so.
    /// Who gets a started operation runs, then calls <see cref="IdempotentOperation.CompleteAsync"/> or <see cref="IdempotentOperation.AbandonAsync"/>, and disposes of it in any case.
    /// </summary>
    /// <param name="scope">Within what the key is unique.</param>
    /// <param name="key">The key; see <see cref="KeyProblem"/>.</param>
    /// <param name="fingerprint">What the key is bound to; hashed.</param>
    /// <param name="cancellationToken">Ends the call, and cancels the operation's token later on.</param>
    /// <param name="waitCancellation">Ends no more than a wait for another run, as when the client that waits has gone: the operation is in progress then, and runs for nobody.</param>
    /// <returns>The operation; its <see cref="IdempotentOperation.Status"/> says what to do.</returns>
    /// <exception cref="ArgumentException">The key is malformed.</exception>
    /// <exception cref="IdempotencyStoreException">The store is down, and is required.</exception>
    public ValueTask<IdempotentOperation> BeginAsync(
        IdempotencyScope scope, string key, ReadOnlyMemory<byte> fingerprint, CancellationToken cancellationToken = default, CancellationToken waitCancellation = default)
    {
        IdempotentOperation operation = Prepare(scope, key, fingerprint, cancellationToken);
        return operation.Status == IdempotencyStatus.KeyExpired ? new ValueTask<IdempotentOperation>(operation) : BeginAsync(operation, waitCancellation);
    }

    /// <summary>
    /// Transaction mode, for the same: nothing is claimed before the operation's <see cref="IdempotentOperation.BeginTransactionAsync"/>. The rest is as in lease mode;
    /// <see cref="IdempotentOperation.CompleteAsync"/> commits.
    /// </summary>
    /// <param name="scope">Within what the key is unique.</param>
    /// <param name="key">The key; see <see cref="KeyProblem"/>.</param>
    /// <param name="fingerprint">What the key is bound to; hashed.</param>
    /// <param name="cancellationToken">Cancels the operation's token later on.</param>
    /// <returns>The operation: <see cref="IdempotencyStatus.Prepared"/> or <see cref="IdempotencyStatus.KeyExpired"/>.</returns>
    /// <exception cref="ArgumentException">The key is malformed.</exception>
    public IdempotentOperation Prepare(IdempotencyScope scope, string key, ReadOnlyMemory<byte> fingerprint, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(scope.Operation, nameof(scope));
        ArgumentNullException.ThrowIfNull(scope.Subject, nameof(scope));
        if (KeyProblem(key) is { } problem)
        {
            throw new ArgumentException(problem, nameof(key));
        }

        ExecutorSettings settings = _settings;
        IdempotencyDigest fingerprintDigest = KeyHash.Fingerprint(fingerprint.Span);

        // Of the key itself and not of its record: it stays the same when secrets change. Of the fingerprint too: an abandoned key may be used for another request.
        Span<byte> bytes = stackalloc byte[IdempotencyDigest.Size];
        fingerprintDigest.CopyTo(bytes);
        IdempotencyDigest root = KeyHash.Compute(null, "downstream", scope.Operation, scope.Subject, key, bytes);
        if (settings.RefuseExpiredKeys && IsOlderThan(key, settings.Retention))
        {
            Telemetry.Began(Name, IdempotencyStatus.KeyExpired);
            return new IdempotentOperation(this, settings, IdempotencyStatus.KeyExpired, default, root, cancellationToken);
        }

        IdempotencyDigest digest = KeyHash.Compute(settings.Secret, "key", scope.Operation, scope.Subject, key);
        var request = new IdempotencyClaimRequest
        {
            Key = digest,
            PreviousKey = settings.HasPrevious ? KeyHash.Compute(settings.PreviousSecret, "key", scope.Operation, scope.Subject, key) : null,
            Fingerprint = fingerprintDigest,
            Lease = settings.Lease,
            Retention = settings.Retention,
        };
        return new IdempotentOperation(this, settings, IdempotencyStatus.Prepared, request, root, cancellationToken);
    }

    /// <summary>Claims for an operation that was prepared, again and again while duplicates wait.</summary>
    private async ValueTask<IdempotentOperation> BeginAsync(IdempotentOperation operation, CancellationToken waitCancellation)
    {
        ExecutorSettings settings = operation.Settings;
        long? waitingSince = null;
        TimeSpan patience = default;
        IdempotencyClaim seen = default;
        bool wokeEarly = false;
        while (true)
        {
            long sent = Time.GetTimestamp();
            IdempotencyClaim claim;
            try
            {
                claim = await Store.BeginAsync(operation.Request, operation.CallerToken).ConfigureAwait(false);
                StoreAnswered();
            }
            catch (IdempotencyStoreException exception)
            {
                StoreFailed(exception, settings);
                if (settings.StoreRequired)
                {
                    throw;
                }

                if (waitingSince is null)
                {
                    operation.RunUnprotected();
                }
                else
                {
                    // It was in progress a moment ago, so running beside it is no option.
                    operation.Settle(seen, sent, inLeaseMode: true);
                }

                break;
            }

            if (claim.Status != IdempotencyClaimStatus.InProgress || settings.Duplicates == DuplicatePolicy.Reject)
            {
                operation.Settle(claim, sent, inLeaseMode: true);
                break;
            }

            bool woke = wokeEarly && claim.Fence == seen.Fence;
            seen = claim;
            if (waitingSince is null)
            {
                waitingSince = sent;
                patience = Patience(settings);
            }

            TimeSpan left = patience - Time.GetElapsedTime(waitingSince.Value);
            if (left <= TimeSpan.Zero || waitCancellation.IsCancellationRequested)
            {
                operation.Settle(claim, sent, inLeaseMode: true);
                break;
            }

            using CancellationTokenSource? both = waitCancellation.CanBeCanceled ? CancellationTokenSource.CreateLinkedTokenSource(operation.CallerToken, waitCancellation) : null;
            CancellationToken token = both?.Token ?? operation.CallerToken;
            try
            {
                if (woke)
                {
                    // A store may wake early for nothing; asking it again at once would be a busy loop.
                    await Task.Delay(left < EarlyPause ? left : EarlyPause, Time, token).ConfigureAwait(false);
                    wokeEarly = false;
                    continue;
                }

                // Not past the lease that was told: when its owner is dead, nobody else says so.
                TimeSpan turn = claim.LeaseLeft < left ? claim.LeaseLeft : left;
                long from = Time.GetTimestamp();
                await Store.WaitAsync(claim.Key, claim.Fence, turn > OneMillisecond ? turn : OneMillisecond, token).ConfigureAwait(false);
                // By more than a timer's rounding.
                wokeEarly = Time.GetElapsedTime(from) + 2 * OneMillisecond < turn;
            }
            catch (IdempotencyStoreException exception)
            {
                // As above.
                StoreFailed(exception, settings);
                operation.Settle(claim, sent, inLeaseMode: true);
                break;
            }
            catch (OperationCanceledException) when (waitCancellation.IsCancellationRequested && !operation.CallerToken.IsCancellationRequested)
            {
                operation.Settle(claim, sent, inLeaseMode: true);
                break;
            }
        }

        Telemetry.Began(Name, operation.Status);
        return operation;
    }

    private static TimeSpan EarlyPause { get; } = TimeSpan.FromMilliseconds(50);

    private static TimeSpan OneMillisecond { get; } = TimeSpan.FromMilliseconds(1);

    /// <summary>How long a duplicate may wait: the bound of the options, or what the caller has left when that is less.</summary>
    internal TimeSpan Patience(ExecutorSettings settings)
    {
        TimeSpan? left = null;
        try
        {
            left = settings.TimeLeft?.Invoke();
        }
        catch (Exception exception)
        {
            Log.TimeLeftThrew(_logger, exception, Name);
        }

        return left < settings.MaxWait ? left.Value : settings.MaxWait;
    }

    internal void StoreAnswered()
    {
        if (Volatile.Read(ref _storeDown) != 0 && Interlocked.Exchange(ref _storeDown, 0) != 0)
        {
            Log.StoreUp(_logger, Name);
        }
    }

    /// <summary>Tells it once, until the store has answered again.</summary>
    internal void StoreFailed(Exception exception, ExecutorSettings settings)
    {
        Telemetry.StoreFailed(Name);
        if (exception is not IdempotencyStoreException { IsFull: true } && Interlocked.Exchange(ref _storeDown, 1) == 0)
        {
            Log.StoreDown(_logger, exception, Name, settings.StoreRequired ? "fail" : "run without protection");
        }
    }

    /// <summary>RFC 9562, section 5.7: 48 bits of milliseconds since 1970, then the version.</summary>
    private bool IsOlderThan(string key, TimeSpan retention)
    {
        // Exactly hexadecimal and hyphens: the parser takes signs and 0x as well.
        if (key.Length != 36 || key.AsSpan().ContainsAnyExcept(UuidCharacters) || !Guid.TryParseExact(key, "D", out Guid id) || id.Version != 7 || id.Variant is < 8 or > 11)
        {
            return false;
        }

        Span<byte> bytes = stackalloc byte[16];
        id.TryWriteBytes(bytes, bigEndian: true, out _);
        long milliseconds = 0;
        for (int i = 0; i < 6; i++)
        {
            milliseconds = (milliseconds << 8) | bytes[i];
        }

        return Time.GetUtcNow().ToUnixTimeMilliseconds() - milliseconds > (long)retention.TotalMilliseconds;
    }
}
