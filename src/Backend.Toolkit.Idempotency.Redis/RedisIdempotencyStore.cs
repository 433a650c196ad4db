using System.Data.Common;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>
/// Records on Redis, one string each: every verb is one script and one round trip, decided by the server's clock. Exact on one server; a claim that the server had not replicated or persisted when
/// it failed is lost, and its key runs again. Waiters are woken by a message from the script that ended the run; should it be lost, they look every five seconds.
/// Records expire by themselves. Thread-safe; one instance for each connection and prefix is enough.
/// </summary>
public sealed class RedisIdempotencyStore : IIdempotencyStore
{
    /// <summary>How often a waiter looks, in case the message that should wake it was lost with a connection.</summary>
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(5);

    private readonly IConnectionMultiplexer _connection;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly string _name;

    /// <summary>What the driver puts before the names of channels that it subscribes to, but not before those that scripts publish to.</summary>
    private readonly string _channelPrefix;
    private RedisIdempotencyStoreSettings _settings;
    private bool _hasLookedAtEviction;

    /// <summary>A store on the application's connection.</summary>
    /// <param name="options">The options.</param>
    /// <param name="timeProvider">Measures timeouts and waits, nothing else. Default <see cref="TimeProvider.System"/>.</param>
    /// <param name="logger">Hears when the server may evict records.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the message tells all of them.</exception>
    public RedisIdempotencyStore(RedisIdempotencyStoreOptions options, TimeProvider? timeProvider = null, ILogger<RedisIdempotencyStore>? logger = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        _connection = options.Connection!;
        _time = timeProvider ?? TimeProvider.System;
        _logger = logger ?? NullLogger<RedisIdempotencyStore>.Instance;
        _name = options.Name;
        _channelPrefix = (string?)ConfigurationOptions.Parse(_connection.Configuration).ChannelPrefix ?? "";
        Channels = new Channels(_connection.GetSubscriber());
        _settings = Settings(options);
    }

    internal Channels Channels { get; }

    internal string KeyPrefix => Volatile.Read(ref _settings).KeyPrefix;

    internal TimeSpan StoreTimeout => Volatile.Read(ref _settings).StoreTimeout;

    /// <summary>Gives the live store other options; calls under way go on under those they began with.</summary>
    /// <param name="options">The new options; what says where the records are (connection, database, prefix) stays what it was, or runs under way would lose theirs.</param>
    /// <exception cref="Microsoft.Extensions.Options.OptionsValidationException">The options have problems; the old ones stay in force.</exception>
    public void Update(RedisIdempotencyStoreOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.ThrowIfInvalid();
        Volatile.Write(ref _settings, Settings(options, Volatile.Read(ref _settings)));
    }

    /// <inheritdoc/>
    /// <exception cref="NotSupportedException">On a cluster, there is a second key and it is in another slot.</exception>
    public async ValueTask<IdempotencyClaim> BeginAsync(IdempotencyClaimRequest request, CancellationToken cancellationToken = default)
    {
        RedisIdempotencyStoreSettings settings = Volatile.Read(ref _settings);
        RedisKey[] keys = request.PreviousKey is { } previous ? [Key(settings, request.Key), Key(settings, previous)] : [Key(settings, request.Key)];
        TimeSpan life = request.Lease > request.Retention ? request.Lease : request.Retention;
        IdempotencyClaim claim = await CallAsync(
            settings,
            RecordScripts.Begin,
            keys,
            [request.Fingerprint.ToArray(), Microseconds(request.Lease), Milliseconds(life), _channelPrefix],
            settings.Wait,
            result => Record.Claim(result, request),
            static claim => claim.Status == IdempotencyClaimStatus.Started,
            cancellationToken).ConfigureAwait(false);
        if (!Interlocked.Exchange(ref _hasLookedAtEviction, true))
        {
            _ = LookAtEvictionAsync();
        }

        return claim;
    }

    /// <inheritdoc/>
    public ValueTask<bool> RenewAsync(IdempotencyDigest key, long fence, TimeSpan lease, CancellationToken cancellationToken = default) =>
        WriteAsync(RecordScripts.Renew, key, [Record.Fence(fence), Microseconds(lease), Milliseconds(lease)], isReplicated: false, cancellationToken);

    /// <inheritdoc/>
    public ValueTask<bool> SavePhaseAsync(IdempotencyDigest key, long fence, string phase, ReadOnlyMemory<byte> value, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(phase);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(phase.Length, 100, nameof(phase));
        ThrowIfGiven(transaction);
        byte[] name = Record.Name(phase);
        return WriteAsync(RecordScripts.SavePhase, key, [Record.Fence(fence), name, Record.Phase(name, value.Span)], isReplicated: true, cancellationToken);
    }

    /// <inheritdoc/>
    public ValueTask<bool> CompleteAsync(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention, DbTransaction? transaction = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        ThrowIfGiven(transaction);
        return WriteAsync(
            RecordScripts.Complete,
            key,
            [Record.Fence(fence), outcome.IsTombstone ? "t" : "c", Record.Outcome(outcome), Milliseconds(retention), _channelPrefix],
            isReplicated: true,
            cancellationToken);
    }

    /// <inheritdoc/>
    public ValueTask<bool> AbandonAsync(IdempotencyDigest key, long fence, CancellationToken cancellationToken = default) =>
        WriteAsync(RecordScripts.Abandon, key, [Record.Fence(fence), _channelPrefix], isReplicated: false, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask WaitAsync(IdempotencyDigest key, long fence, TimeSpan timeout, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        RedisIdempotencyStoreSettings settings = Volatile.Read(ref _settings);
        long start = _time.GetTimestamp();
        if (timeout <= TimeSpan.Zero)
        {
            return;
        }

        string name = Key(settings, key);
        byte[] owned = Record.Owned(fence);
        bool isLast = false;
        Channel channel = Channels.Join(name);
        try
        {
            await WithinAsync(Patience(), channel.Ready, cancellationToken).ConfigureAwait(false);
            while (true)
            {
                Task next = channel.Next;
                byte[]? head = await WithinAsync(Patience(), HeadAsync(), cancellationToken).ConfigureAwait(false);
                TimeSpan left = Left();
                if (!owned.AsSpan().SequenceEqual(head) || left == TimeSpan.Zero)
                {
                    return;
                }

                await next.WaitAsync(left < LookAgain ? left : LookAgain, _time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                cancellationToken.ThrowIfCancellationRequested();
                if (next.IsCompleted)
                {
                    return;
                }
            }
        }
        catch (IdempotencyStoreException exception) when (isLast && exception.InnerException is TimeoutException)
        {
            // The call was given all that was left of the wait. (A timer may end a moment before the clock says so.)
        }
        finally
        {
            Channels.Leave(channel);
        }

        TimeSpan Left()
        {
            TimeSpan left = timeout - _time.GetElapsedTime(start);
            return left > TimeSpan.Zero ? left : TimeSpan.Zero;
        }

        TimeSpan Patience()
        {
            TimeSpan left = Left();
            isLast = left < settings.StoreTimeout;
            return isLast ? left : settings.StoreTimeout;
        }

        async Task<byte[]?> HeadAsync() => await settings.Database.StringGetRangeAsync(name, 0, owned.Length - 1, CommandFlags.DemandMaster).ConfigureAwait(false);
    }

    private static string Key(RedisIdempotencyStoreSettings settings, IdempotencyDigest key) => settings.KeyPrefix + key;

    /// <summary>Rounds up, so that a positive duration is never nothing.</summary>
    private static long Microseconds(TimeSpan duration) => (duration.Ticks + TimeSpan.TicksPerMicrosecond - 1) / TimeSpan.TicksPerMicrosecond;

    private static long Milliseconds(TimeSpan duration) => Math.Max(1, (duration.Ticks + TimeSpan.TicksPerMillisecond - 1) / TimeSpan.TicksPerMillisecond);

    private static void ThrowIfGiven(DbTransaction? transaction)
    {
        if (transaction is not null)
        {
            throw new NotSupportedException("Redis takes no part in a database's transaction: register a store in the database that the transaction belongs to.");
        }
    }

    private RedisIdempotencyStoreSettings Settings(RedisIdempotencyStoreOptions options, RedisIdempotencyStoreSettings? before = null) => new(
        before?.Database ?? _connection.GetDatabase(options.Database ?? -1),
        before?.KeyPrefix ?? options.KeyPrefix,
        options.StoreTimeout,
        options.Replicas,
        options.Replicas == 0 ? null : [options.Replicas, Milliseconds(options.ReplicaTimeout)]);

    private ValueTask<bool> WriteAsync(Script script, IdempotencyDigest key, RedisValue[] values, bool isReplicated, CancellationToken cancellationToken)
    {
        RedisIdempotencyStoreSettings settings = Volatile.Read(ref _settings);
        return CallAsync(settings, script, [Key(settings, key)], values, isReplicated ? settings.Wait : null, Record.IsWritten, static written => written, cancellationToken);
    }

    private async ValueTask<T> CallAsync<T>(
        RedisIdempotencyStoreSettings settings, Script script, RedisKey[] keys, RedisValue[] values, object[]? wait, Func<RedisResult, T> read, Func<T, bool> hasWritten, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (wait is not null && _connection.GetServers().Any(server => server.ServerType == ServerType.Cluster))
        {
            throw new NotSupportedException("Replicas must be 0 on a Redis Cluster, where WAIT may reach another node than the write; min-replicas-to-write of the server narrows the same gap.");
        }

        return await WithinAsync(settings.StoreTimeout, AnswerAsync(), cancellationToken).ConfigureAwait(false);

        async Task<T> AnswerAsync()
        {
            (RedisResult result, long replicas) = await script.EvaluateAsync(settings.Database, keys, values, wait).ConfigureAwait(false);
            T answer = read(result);
            return wait is null || replicas >= settings.Replicas || !hasWritten(answer) ? answer : throw new IdempotencyStoreException(
                FormattableString.Invariant($"The write must reach {settings.Replicas} replicas, but did {replicas} in time. It was made, and may be lost when the server fails."));
        }
    }

    /// <summary>Awaits the driver for as long as it may take, and tells its failures as the contract does.</summary>
    private async Task<T> WithinAsync<T>(TimeSpan timeout, Task<T> call, CancellationToken cancellationToken)
    {
        await WithinAsync(timeout, (Task)call, cancellationToken).ConfigureAwait(false);
        return await call.ConfigureAwait(false);
    }

    private async Task WithinAsync(TimeSpan timeout, Task call, CancellationToken cancellationToken)
    {
        try
        {
            await call.WaitAsync(timeout, _time, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (IsSlots(exception))
        {
            throw new NotSupportedException("On a Redis Cluster both keys of a record must be in one slot: while a secret is being rotated, KeyPrefix must hold a hash tag, such as {orders}:.", exception);
        }
        catch (Exception exception) when (exception is RedisException or TimeoutException or ObjectDisposedException or FormatException)
        {
            throw new IdempotencyStoreException($"Redis does not answer as it should: {exception.Message}", exception);
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            throw new IdempotencyStoreException("The connection to Redis has been closed.", exception);
        }
        finally
        {
            if (!call.IsCompleted)
            {
                // A late failure is nobody's.
                _ = call.ContinueWith(static late => late.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            }
        }
    }

    /// <summary>Said by the driver before it sends anything, or by the server where the driver does not see the cluster behind it.</summary>
    private static bool IsSlots(Exception exception) =>
        exception is RedisCommandException && exception.Message.Contains("single slot", StringComparison.Ordinal)
        || exception is RedisServerException && exception.Message.StartsWith("CROSSSLOT", StringComparison.Ordinal);

    /// <summary>Once, behind the first claim, and only told: who runs Redis for caches alone may well let it evict.</summary>
    private async Task LookAtEvictionAsync()
    {
        try
        {
            if (_connection.GetServers().FirstOrDefault(server => server.IsConnected && !server.IsReplica) is not { } server)
            {
                return;
            }

            Dictionary<string, string> memory = (await server.InfoAsync("memory").ConfigureAwait(false)).SelectMany(static group => group).DistinctBy(static line => line.Key).ToDictionary();
            if (memory.GetValueOrDefault("maxmemory", "0") != "0" && memory.TryGetValue("maxmemory_policy", out string? policy) && policy != "noeviction")
            {
                Log.Evicts(_logger, _name, policy);
            }
        }
        catch (Exception exception) when (exception is RedisException or TimeoutException or ObjectDisposedException or NotSupportedException)
        {
            // A server that does not tell is none that fails.
        }
    }
}
