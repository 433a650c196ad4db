using Dapper;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using static Backend.Toolkit.Idempotency.Sqlite.Tests.Database;

namespace Backend.Toolkit.Idempotency.Sqlite.Tests;

/// <summary>The file: who makes it, what becomes of it, and what goes from it.</summary>
public sealed class FileTests : IAsyncDisposable
{
    private static readonly TimeSpan Hour = TimeSpan.FromHours(1);

    private readonly Database _database = new();

    public ValueTask DisposeAsync() => _database.DisposeAsync();

    [Fact]
    public async Task What_one_store_wrote_another_finds_and_tables_of_another_name_are_others()
    {
        IdempotencyClaimRequest request = Request();
        SqliteIdempotencyStore first = _database.CreateStore();
        IdempotencyClaim claim = await first.BeginAsync(request);
        await first.CompleteAsync(claim.Key, claim.Fence, Outcome(201), Hour);
        await first.DisposeAsync();

        (await _database.CreateStore().BeginAsync(request)).Outcome!.Status.Should().Be(201);
        (await _database.CreateStore(o => o.Table = "other_2").BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Started);
        Func<Task> disposed = async () => await first.BeginAsync(request);
        await disposed.Should().ThrowAsync<ObjectDisposedException>();
    }

    [Fact]
    public async Task The_script_is_run_by_the_store_unless_it_is_yours_to_run()
    {
        SqliteIdempotencyStore yours = _database.CreateStore(o => o.CreateSchema = false);
        Func<Task> begin = async () => await yours.BeginAsync(Request());
        await begin.Should().ThrowAsync<IdempotencyStoreException>();

        _database.Execute(SqliteIdempotencyStore.Script());
        _database.Execute(SqliteIdempotencyStore.Script());
        IdempotencyClaim claim = await yours.BeginAsync(Request());
        _database.Execute("PRAGMA user_version = 7");
        await using Database another = new();
        await another.CreateStore().BeginAsync(Request());

        claim.Status.Should().Be(IdempotencyClaimStatus.Started);
        await using SqliteConnection connection = another.Connect();
        (await connection.ExecuteScalarAsync<string>("PRAGMA journal_mode")).Should().Be("wal");
        ((Func<string>)(() => SqliteIdempotencyStore.Script("a; DROP TABLE effects"))).Should().Throw<ArgumentException>();
    }

    [Fact]
    public async Task A_file_without_a_write_ahead_log_is_refused_when_the_store_may_not_change_it()
    {
        _database.Execute(SqliteIdempotencyStore.Script());
        _database.Execute("PRAGMA journal_mode = DELETE");
        SqliteIdempotencyStore store = _database.CreateStore(o => o.CreateSchema = false);

        Func<Task> begin = async () => await store.BeginAsync(Request());

        (await begin.Should().ThrowAsync<IdempotencyStoreException>()).Which.Message.Should().Contain("WAL");
    }

    [Theory]
    [InlineData(true, 2)]
    [InlineData(false, 1)]
    public async Task Each_commit_is_on_the_disk_unless_told_otherwise(bool survives, long synchronous)
    {
        SqliteIdempotencyStore store = _database.CreateStore(o => o.SurvivePowerLoss = survives);
        await store.BeginAsync(Request());

        (store.Writer.Session!.Scalar("PRAGMA synchronous")).Should().Be(synchronous);
    }

    [Fact]
    public async Task A_file_that_cannot_be_used_is_told_and_used_when_it_can_be()
    {
        string folder = Path.Combine(Path.GetDirectoryName(_database.File)!, "later");
        SqliteIdempotencyStore store = _database.CreateStore(o => o.ConnectionString = $"Data Source={folder}/shop.db");
        Func<Task> begin = async () => await store.BeginAsync(Request());

        await begin.Should().ThrowAsync<IdempotencyStoreException>();
        Directory.CreateDirectory(folder);
        await File.WriteAllTextAsync($"{folder}/shop.db", new string('x', 10_000), TestContext.Current.CancellationToken);
        await begin.Should().ThrowAsync<IdempotencyStoreException>();
        File.Delete($"{folder}/shop.db");

        (await store.BeginAsync(Request())).Status.Should().Be(IdempotencyClaimStatus.Started);
        await store.DisposeAsync();
    }

    [Fact]
    public async Task A_table_that_goes_while_the_store_lives_is_told()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaim claim = await store.BeginAsync(Request());
        _database.Execute("ALTER TABLE idempotency RENAME TO gone");

        Func<Task> complete = async () => await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), Hour);
        await complete.Should().ThrowAsync<IdempotencyStoreException>();
        _database.Execute("ALTER TABLE gone RENAME TO idempotency");

        (await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), Hour)).Should().BeTrue();
    }

    [Fact]
    public async Task A_write_that_fails_half_way_leaves_nothing()
    {
        _database.Execute(SqliteIdempotencyStore.Script());
        _database.Execute("CREATE TRIGGER full BEFORE DELETE ON idempotency_phases BEGIN SELECT RAISE(ABORT, 'disk full'); END");
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim claim = await store.BeginAsync(request);
        await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[1]);

        Func<Task> complete = async () => await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), Hour);
        await complete.Should().ThrowAsync<IdempotencyStoreException>();
        IdempotencyClaim duplicate = await store.BeginAsync(request);
        _database.Execute("DROP TRIGGER full");

        duplicate.Status.Should().Be(IdempotencyClaimStatus.InProgress);
        (await store.CompleteAsync(claim.Key, claim.Fence, Outcome(), Hour)).Should().BeTrue();
        _database.Count("idempotency_phases").Should().Be(0);
    }

    [Fact]
    public async Task Fences_grow_over_all_keys_also_when_the_clock_goes_back()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaim now = await store.BeginAsync(Request());
        _database.Execute("UPDATE idempotency_fence SET fence = fence + 1000000000000");

        IdempotencyClaimRequest request = Request();
        IdempotencyClaim first = await store.BeginAsync(request);
        await store.AbandonAsync(first.Key, first.Fence);
        IdempotencyClaim second = await store.BeginAsync(request);

        now.Fence.Should().BeCloseTo((TimeProvider.System.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / 10, 60_000_000);
        (first.Fence, second.Fence).Should().Be((now.Fence + 1_000_000_000_001, now.Fence + 1_000_000_000_002));
    }

    [Fact]
    public async Task Phases_of_an_expired_record_do_not_come_back_when_its_key_is_taken_over()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim expired = await store.BeginAsync(request);
        await store.SavePhaseAsync(expired.Key, expired.Fence, "charge", new byte[1]);
        _database.Shift(TimeSpan.FromHours(25));
        await store.BeginAsync(request);
        _database.Shift(Lease);

        IdempotencyClaim takenOver = await store.BeginAsync(request);

        takenOver.Status.Should().Be(IdempotencyClaimStatus.Started);
        takenOver.Phases.Should().BeEmpty();
    }

    [Fact]
    public async Task Expired_records_go_in_batches_with_their_phases_and_live_ones_stay()
    {
        SqliteIdempotencyStore store = _database.CreateStore(o => o.CleanupBatch = 10);
        for (int i = 0; i < 35; i++)
        {
            IdempotencyClaim claim = await store.BeginAsync(Request());
            await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", new byte[1]);
        }

        _database.Shift(TimeSpan.FromHours(25));
        IdempotencyClaim live = await store.BeginAsync(Request());
        await store.SavePhaseAsync(live.Key, live.Fence, "charge", new byte[1]);

        int deleted = await store.CleanUpAsync();

        deleted.Should().Be(35);
        (_database.Count("idempotency"), _database.Count("idempotency_phases")).Should().Be((1, 1));
        (await store.CleanUpAsync()).Should().Be(0);
    }

    [Fact]
    public async Task Expired_records_go_by_themselves_and_a_failure_is_told_once()
    {
        FakeTimeProvider time = new();
        LogList log = new();
        SqliteIdempotencyStore store = _database.CreateStore(o => o.CleanupInterval = TimeSpan.FromMinutes(1), time, log);
        await store.BeginAsync(Request());
        _database.Shift(TimeSpan.FromHours(25));
        _database.Execute("ALTER TABLE idempotency_phases RENAME TO gone");

        await PassUntilAsync(() => log.Entries.Count > 0);
        for (int i = 0; i < 20; i++)
        {
            await PassAsync();
        }

        _database.Execute("ALTER TABLE gone RENAME TO idempotency_phases");
        await PassUntilAsync(() => _database.Count("idempotency") == 0);

        log.Entries.Should().ContainSingle().Which.Level.Should().Be(LogLevel.Warning);

        Task PassAsync()
        {
            time.Advance(TimeSpan.FromSeconds(30));
            return Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
        }

        async Task PassUntilAsync(Func<bool> condition)
        {
            for (int i = 0; i < 500 && !condition(); i++)
            {
                await PassAsync();
            }

            condition().Should().BeTrue();
        }
    }

    [Fact]
    public async Task Who_waits_is_woken_by_another_store_and_by_the_callers_own_commit_and_nothing_is_left()
    {
        SqliteIdempotencyStore here = _database.CreateStore(), there = _database.CreateStore();
        IdempotencyClaim one = await here.BeginAsync(Request()), two = await here.BeginAsync(Request()), three = await here.BeginAsync(Request());
        Task[] waits = [Wait(one), Wait(one), Wait(two)];
        using var cancellation = new CancellationTokenSource();
        Task cancelled = here.WaitAsync(three.Key, three.Fence, TimeSpan.FromMinutes(10), cancellation.Token).AsTask();

        await there.CompleteAsync(one.Key, one.Fence, Outcome(), Hour);
        await using (SqliteConnection connection = _database.Connect())
        {
            await using var transaction = await here.BeginTransactionAsync(connection, Lease);
            await here.CompleteAsync(two.Key, two.Fence, Outcome(), Hour, transaction);
            await transaction.CommitAsync(TestContext.Current.CancellationToken);
        }

        await Task.WhenAll(waits).WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);
        await cancellation.CancelAsync();
        await ((Func<Task>)(() => cancelled)).Should().ThrowAsync<OperationCanceledException>();
        here.Waiting.Should().Be(0);

        Task Wait(IdempotencyClaim claim) => here.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMinutes(10)).AsTask();
    }

    [Fact]
    public async Task Who_waits_is_woken_at_once_by_the_store_that_it_waits_with()
    {
        // Time stands still, so nobody looks again.
        SqliteIdempotencyStore store = _database.CreateStore(time: new FakeTimeProvider());
        IdempotencyClaim one = await store.BeginAsync(Request()), two = await store.BeginAsync(Request()), three = await store.BeginAsync(Request());
        Task[] waits = [.. new[] { one, two, three }.Select(claim => store.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMinutes(10)).AsTask())];
        bool early = waits.Any(wait => wait.IsCompleted);

        await store.CompleteAsync(one.Key, one.Fence, Outcome(), Hour);
        await store.AbandonAsync(two.Key, two.Fence);
        await using SqliteConnection connection = _database.Connect();
        var transaction = await store.BeginTransactionAsync(connection, Lease);
        await store.CompleteAndCommitAsync(three.Key, three.Fence, Outcome(), Hour, transaction);
        await transaction.DisposeAsync();

        early.Should().BeFalse();
        await Task.WhenAll(waits).WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);
    }

    [Fact]
    public void Who_was_woken_and_leaves_late_does_not_leave_for_others()
    {
        var waits = new Waits();
        IdempotencyDigest key = Digest();
        (Task first, _) = waits.Join(key, 1);
        waits.Wake(key, 1);
        (Task second, _) = waits.Join(key, 1);

        waits.Leave(key, 1, first);
        waits.Wake(key, 1);

        second.IsCompletedSuccessfully.Should().BeTrue();
    }

    [Fact]
    public async Task Who_waits_when_the_store_is_disposed_of_does_not_wait_on()
    {
        SqliteIdempotencyStore store = _database.CreateStore();
        IdempotencyClaim claim = await store.BeginAsync(Request());
        Task wait = store.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMinutes(10)).AsTask();

        await store.DisposeAsync();

        await wait.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);
    }
}

internal sealed record LogEntry(LogLevel Level, int Id, string Message);

/// <summary>Keeps what is logged, by all categories of a host or by one store.</summary>
internal sealed class LogList : ILogger<SqliteIdempotencyStore>, ILoggerProvider
{
    private readonly Lock _gate = new();
    private readonly List<LogEntry> _entries = [];

    public IReadOnlyList<LogEntry> Entries
    {
        get
        {
            lock (_gate)
            {
                return [.. _entries];
            }
        }
    }

    public ILogger CreateLogger(string categoryName) => this;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        lock (_gate)
        {
            _entries.Add(new LogEntry(logLevel, eventId.Id, formatter(state, exception)));
        }
    }

    public void Dispose()
    {
    }
}
