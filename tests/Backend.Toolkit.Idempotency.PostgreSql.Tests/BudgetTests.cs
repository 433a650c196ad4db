using System.Data.Common;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

/// <summary>What it costs the database, counted there and on the wire, beside the same handler without a key.</summary>
public sealed class BudgetTests : IAsyncLifetime
{
    private const int Runs = 20;

    private PostgreSqlCluster _cluster = null!;
    private NpgsqlDataSource _control = null!;

    public async ValueTask InitializeAsync()
    {
        _cluster = await Cluster.StartAsync();

        // In another database, so that what counts is not counted.
        _control = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(_cluster.ConnectionString) { Database = "template1" }.ConnectionString);
        await ExecuteAsync(_control, "CREATE EXTENSION pg_stat_statements");
    }

    public async ValueTask DisposeAsync()
    {
        await _control.DisposeAsync();
        await _cluster.DisposeAsync();
    }

    [Fact]
    public async Task A_run_in_a_transaction_costs_no_commit_two_statements_and_one_round_trip_or_two()
    {
        Cost bare = await MeasureAsync(BareAsync);
        Cost ours = await MeasureAsync((store, connection) => InTransactionAsync(store, connection, theStoreCommits: true));
        Cost yours = await MeasureAsync((store, connection) => InTransactionAsync(store, connection, theStoreCommits: false));

        bare.Should().Be(new Cost(Commits: 1, Statements: 2, RoundTrips: 2), "BEGIN travels with the insert; then COMMIT");
        ours.Should().Be(new Cost(bare.Commits, bare.Statements + 2, bare.RoundTrips + 1));
        yours.Should().Be(new Cost(bare.Commits, bare.Statements + 2, bare.RoundTrips + 2));
    }

    [Fact]
    public async Task Verbs_of_lease_mode_are_one_statement_in_one_round_trip_each_and_a_repeat_takes_no_transaction_id()
    {
        IdempotencyClaimRequest done = Request();
        Cost run = await MeasureAsync(async (store, _) =>
        {
            IdempotencyClaim claim = await store.BeginAsync(Request());
            await store.RenewAsync(claim.Key, claim.Fence, Lease);
            await store.SavePhaseAsync(claim.Key, claim.Fence, "charge", Content);
            await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);
        }, holdsConnection: false);
        long? ids = null;
        Cost repeats = await MeasureAsync(async (store, _) =>
        {
            IdempotencyClaim claim = await store.BeginAsync(done);
            if (claim.Status == IdempotencyClaimStatus.Started)
            {
                await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);
            }
            else if (ids is null)
            {
                ids = await NextIdAsync();
            }
        }, holdsConnection: false);

        run.Should().Be(new Cost(Commits: 4, Statements: 4, RoundTrips: 4));
        repeats.Should().Be(new Cost(Commits: 1, Statements: 1, RoundTrips: 1));
        (await NextIdAsync() - ids).Should().Be(0);

        Task<long> NextIdAsync() => ScalarAsync<long>(_control, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
    }

    [Fact]
    public async Task While_a_secret_is_rotated_a_claim_is_one_round_trip_too()
    {
        Cost cost = await MeasureAsync(async (store, _) => await store.BeginAsync(Request(previous: Digest())), holdsConnection: false);

        cost.RoundTrips.Should().Be(1);
        cost.Commits.Should().Be(1);
    }

    private static async Task BareAsync(PostgreSqlIdempotencyStore store, NpgsqlConnection connection)
    {
        await using DbTransaction transaction = await connection.BeginTransactionAsync();
        await InsertAsync(connection);
        await transaction.CommitAsync();
    }

    private static async Task InTransactionAsync(PostgreSqlIdempotencyStore store, NpgsqlConnection connection, bool theStoreCommits)
    {
        await using DbTransaction transaction = await store.BeginTransactionAsync(connection, Patience);
        IdempotencyClaim claim = await store.ClaimAsync(Request(), transaction);
        await InsertAsync(connection);
        if (theStoreCommits)
        {
            (await store.CompleteAndCommitAsync(claim.Key, claim.Fence, Outcome, Retention, transaction)).Should().BeTrue();
        }
        else
        {
            (await store.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention, transaction)).Should().BeTrue();
            await transaction.CommitAsync();
        }
    }

    private static async Task InsertAsync(NpgsqlConnection connection)
    {
        await using var command = new NpgsqlCommand("INSERT INTO effects (name) VALUES ('one')", connection);
        await command.PrepareAsync();
        await command.ExecuteNonQueryAsync();
    }

    /// <summary>For each of some runs, on a warm connection of its own. What does not divide evenly fails.</summary>
    private async Task<Cost> MeasureAsync(Func<PostgreSqlIdempotencyStore, NpgsqlConnection, Task> run, bool holdsConnection = true)
    {
        var builder = new NpgsqlConnectionStringBuilder(_cluster.ConnectionString);
        await using var proxy = new Proxy(builder.Port);
        builder.Port = proxy.Port;
        builder.SslMode = SslMode.Disable;
        builder.GssEncryptionMode = GssEncryptionMode.Disable;
        builder.NoResetOnClose = true;
        builder.MaxPoolSize = holdsConnection ? 2 : 1;
        long commits;
        int trips;
        await using (NpgsqlDataSource source = NpgsqlDataSource.Create(builder.ConnectionString))
        {
            await using PostgreSqlIdempotencyStore store = Create(source);
            await ExecuteAsync(source, "CREATE TABLE IF NOT EXISTS effects (name text NOT NULL)");
            NpgsqlConnection connection = await source.OpenConnectionAsync();
            if (!holdsConnection)
            {
                await connection.DisposeAsync();
            }

            for (int i = 0; i < Runs; i++)
            {
                await run(store, connection);
            }

            await FlushAsync();
            await ExecuteAsync(_control, "SELECT pg_stat_statements_reset()");
            commits = await CommitsAsync();
            trips = proxy.RoundTrips;
            for (int i = 0; i < Runs; i++)
            {
                await run(store, connection);
            }

            trips = proxy.RoundTrips - trips;

            // COMMIT is counted as a commit; it stands here only where it is not prepared.
            long statements = await ScalarAsync<long>(
                _control, "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'postgres') AND query NOT ILIKE 'COMMIT%'");
            await FlushAsync();
            commits = await CommitsAsync() - commits;

            // The statement that flushes is a commit itself.
            commits--;
            await connection.DisposeAsync();
            return new Cost((int)commits / (double)Runs, statements / (double)Runs, trips / (double)Runs);

            async Task FlushAsync()
            {
                // On the connection that ran, which is the only one in the pool when none is held.
                if (holdsConnection)
                {
                    await using var command = new NpgsqlCommand("SELECT pg_stat_force_next_flush()", connection);
                    await command.ExecuteNonQueryAsync();
                }
                else
                {
                    await ExecuteAsync(source, "SELECT pg_stat_force_next_flush()");
                }
            }
        }
    }

    private Task<long> CommitsAsync() => ScalarAsync<long>(_control, "SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'");

    private sealed record Cost(double Commits, double Statements, double RoundTrips);
}
