using System.Collections.Concurrent;
using System.Transactions;
using Microsoft.Extensions.Time.Testing;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

/// <summary>What is of PostgreSQL in lease mode; the rest is in the conformance suite.</summary>
public sealed class LeaseTests(Database database)
{
    [Fact]
    public async Task A_repeat_writes_nothing_and_locks_nothing()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        string started = await VersionAsync();
        await store.BeginAsync(request);
        await store.BeginAsync(Request(request.Key));
        string inProgress = await VersionAsync();
        await store.CompleteAsync(owner.Key, owner.Fence, Outcome, Retention);
        string completed = await VersionAsync();

        await store.BeginAsync(request);
        await store.BeginAsync(Request(request.Key));
        await store.BeginAsync(Request(fingerprint: request.Fingerprint, previous: request.Key));

        inProgress.Should().Be(started);
        (await VersionAsync()).Should().Be(completed).And.NotBe(started);

        Task<string> VersionAsync() => ScalarAsync<string>(database.Source, $"SELECT string_agg(concat_ws(' ', ctid, xmin, xmax), ',') FROM {TableOf(store)}");
    }

    [Fact]
    public async Task An_outcome_changes_no_index()
    {
        // Within one minute, but for one run in some thousands; therefore the best of three.
        bool isHot = false;
        for (int i = 0; i < 3 && !isHot; i++)
        {
            await using PostgreSqlIdempotencyStore store = database.CreateStore();
            IdempotencyClaim owner = await store.BeginAsync(Request());
            await store.CompleteAsync(owner.Key, owner.Fence, Outcome, Retention);
            await using NpgsqlConnection connection = await database.Source.OpenConnectionAsync();
            await using var command = new NpgsqlCommand($"CREATE EXTENSION IF NOT EXISTS pageinspect; SELECT count(*) > 0 FROM heap_page_items(get_raw_page('{TableOf(store)}', 0)) WHERE t_infomask2 & 16384 <> 0", connection);

            isHot = await command.ExecuteScalarAsync() is true;
        }

        isHot.Should().BeTrue();
    }

    [Fact]
    public async Task Under_a_role_whose_default_is_repeatable_read_one_of_many_wins_too()
    {
        await using NpgsqlDataSource source = NpgsqlDataSource.Create($"{database.ConnectionString};Maximum Pool Size=20;Timeout=60;Options=-c default_transaction_isolation=repeatable\\ read");
        await using PostgreSqlIdempotencyStore store = Create(source);
        for (int round = 0; round < 10; round++)
        {
            IdempotencyClaimRequest single = Request(), one = Request(previous: Digest()), other = Request(one.PreviousKey, one.Fingerprint, one.Key);
            var singles = new ConcurrentBag<IdempotencyClaimStatus>();
            var pairs = new ConcurrentBag<IdempotencyClaimStatus>();

            await Task.WhenAll(Enumerable.Range(0, 20).Select(index => Task.Run(async () =>
            {
                singles.Add((await store.BeginAsync(single)).Status);
                pairs.Add((await store.BeginAsync(index % 2 == 0 ? one : other)).Status);
            })));

            foreach (ConcurrentBag<IdempotencyClaimStatus> answers in new[] { singles, pairs })
            {
                answers.Should().ContainSingle(status => status == IdempotencyClaimStatus.Started);
                answers.Count(status => status == IdempotencyClaimStatus.InProgress).Should().Be(19);
            }
        }
    }

    [Fact]
    public async Task The_session_of_a_pooled_connection_is_left_as_it_was()
    {
        await using NpgsqlDataSource source = NpgsqlDataSource.Create($"{database.ConnectionString};Maximum Pool Size=1;No Reset On Close=true");
        await using PostgreSqlIdempotencyStore store = Create(source);

        await store.BeginAsync(Request());
        await store.BeginAsync(Request(previous: Digest()));

        (await ScalarAsync<string>(source, "SHOW lock_timeout")).Should().Be("0");
        (await ScalarAsync<string>(source, "SHOW transaction_isolation")).Should().Be("read committed");
        (await ScalarAsync<long>(source, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")).Should().Be(0);
    }

    [Fact]
    public async Task A_fence_grows_also_when_the_servers_clock_goes_back()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        IdempotencyClaimRequest request = Request();
        await store.BeginAsync(request);
        long ahead = (TimeProvider.System.GetUtcNow().AddDays(1) - DateTimeOffset.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        await ExecuteAsync(database.Source, $"UPDATE {TableOf(store)} SET fence = {ahead}");
        await ShiftAsync(store, Lease);

        IdempotencyClaim claim = await store.BeginAsync(request);

        claim.Fence.Should().Be(ahead + 1);
    }

    [Fact]
    public async Task Two_attempts_of_one_owner_to_complete_are_both_true()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        for (int round = 0; round < 20; round++)
        {
            IdempotencyClaim owner = await store.BeginAsync(Request());

            bool[] completed = await Task.WhenAll(Enumerable.Range(0, 4).Select(index => Task.Run(async () =>
                await store.CompleteAsync(owner.Key, owner.Fence, new IdempotencyOutcome(index, Content), Retention))));

            completed.Should().OnlyContain(done => done);
        }
    }

    [Fact]
    public async Task A_call_that_is_cancelled_on_its_way_says_so()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        IdempotencyClaim owner = await store.BeginAsync(Request());
        await using NpgsqlConnection connection = await database.Source.OpenConnectionAsync();
        await using NpgsqlTransaction transaction = await connection.BeginTransactionAsync();
        await using var command = new NpgsqlCommand($"SELECT 1 FROM {TableOf(store)} FOR UPDATE", connection, transaction);
        await command.ExecuteScalarAsync();
        using var cancellation = new CancellationTokenSource();
        Task<bool> renewal = store.RenewAsync(owner.Key, owner.Fence, Lease, cancellation.Token).AsTask();
        await Task.WhenAny(renewal, Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System));

        await cancellation.CancelAsync();

        Func<Task> cancelled = () => renewal.WaitAsync(Patience, TimeProvider.System);
        await cancelled.Should().ThrowAsync<OperationCanceledException>();
    }

    [Fact]
    public async Task Names_of_phases_are_kept_whatever_they_hold()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore(time: new FakeTimeProvider());
        IdempotencyClaimRequest request = Request();
        IdempotencyClaim owner = await store.BeginAsync(request);
        string[] names = ["\0", "\ud800", "\udc00\ud800", "a\0b", "\ufffd", new('\ufffd', 100)];
        foreach (string name in names)
        {
            await store.SavePhaseAsync(owner.Key, owner.Fence, name, System.Text.Encoding.BigEndianUnicode.GetBytes(name));
        }

        await ShiftAsync(store, Lease);

        (await store.BeginAsync(request)).Phases.Keys.Should().BeEquivalentTo(names);
    }

    [Theory]
    [InlineData(TransactionScopeAsyncFlowOption.Enabled)]
    [InlineData(TransactionScopeAsyncFlowOption.Suppress)]
    public async Task A_scope_of_the_callers_that_is_rolled_back_takes_no_lease_and_no_outcome_back(TransactionScopeAsyncFlowOption flow)
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore();
        IdempotencyClaimRequest request = Request();

        Task<bool> completes;
        using (new TransactionScope(flow))
        {
            completes = RunAsync();
            if (flow == TransactionScopeAsyncFlowOption.Enabled)
            {
                await completes;
            }
        }

        (await completes).Should().BeTrue();
        (await store.BeginAsync(request)).Status.Should().Be(IdempotencyClaimStatus.Completed);

        async Task<bool> RunAsync()
        {
            IdempotencyClaim claim = await store.BeginAsync(request);
            await store.WaitAsync(claim.Key, claim.Fence, TimeSpan.FromMilliseconds(20));
            return await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);
        }
    }

    [Theory]
    [InlineData("standard_conforming_strings=off")]
    [InlineData("bytea_output=escape -c timezone=America/New_York -c intervalstyle=iso_8601 -c datestyle=SQL,DMY -c extra_float_digits=-15")]
    [InlineData("default_transaction_isolation=serializable -c search_path=nowhere -c plan_cache_mode=force_generic_plan")]
    public async Task The_settings_of_a_role_change_nothing(string settings)
    {
        await using NpgsqlDataSource source = NpgsqlDataSource.Create($"{database.ConnectionString};Options=-c {settings}");
        await using PostgreSqlIdempotencyStore store = Create(source);
        IdempotencyClaimRequest request = Request(previous: Digest());
        IdempotencyClaim first = await store.BeginAsync(request);
        await store.SavePhaseAsync(first.Key, first.Fence, "\0\ud800\\x", new byte[] { 0, 39, 92, 255 });
        await ShiftAsync(store, Lease);

        IdempotencyClaim second = await store.BeginAsync(request);
        await store.RenewAsync(second.Key, second.Fence, Lease);
        IdempotencyClaim third = await store.BeginAsync(request);
        await store.CompleteAsync(second.Key, second.Fence, new IdempotencyOutcome(200, new byte[] { 92, 0, 39 }), TimeSpan.FromDays(365));
        await ShiftAsync(store, TimeSpan.FromDays(365) - TimeSpan.FromMinutes(1));
        IdempotencyClaim fourth = await store.BeginAsync(request);

        second.Phases["\0\ud800\\x"].ToArray().Should().Equal(0, 39, 92, 255);
        third.Status.Should().Be(IdempotencyClaimStatus.InProgress);
        third.LeaseLeft.Should().BeCloseTo(Lease, TimeSpan.FromSeconds(20));
        fourth.Outcome!.Content.ToArray().Should().Equal(92, 0, 39);
    }
}
