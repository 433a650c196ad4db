using System.Data.Common;
using Npgsql;
using static Backend.Toolkit.Idempotency.PostgreSql.Tests.Stores;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

public sealed class SchemaTests(Database database)
{
    [Fact]
    public async Task Many_nodes_that_start_at_once_make_one_table_in_a_schema_of_its_own()
    {
        (string schema, string table) = (NewTable(), NewTable());
        PostgreSqlIdempotencyStore[] nodes = [.. Enumerable.Range(0, 16).Select(_ => database.CreateStore(o => (o.Schema, o.Table) = (schema, table)))];
        IdempotencyClaimRequest request = Request();

        IdempotencyClaim[] claims = await Task.WhenAll(nodes.Select(node => Task.Run(async () => await node.BeginAsync(request))));

        claims.Should().ContainSingle(claim => claim.Status == IdempotencyClaimStatus.Started);
        claims.Count(claim => claim.Status == IdempotencyClaimStatus.InProgress).Should().Be(15);
        foreach (PostgreSqlIdempotencyStore node in nodes)
        {
            await node.DisposeAsync();
        }
    }

    [Fact]
    public async Task The_script_can_be_run_by_hand_and_again()
    {
        string table = NewTable();
        await ExecuteAsync(database.Source, PostgreSqlIdempotencyStore.Script(table: table));
        await ExecuteAsync(database.Source, PostgreSqlIdempotencyStore.Script(table: table));
        await using PostgreSqlIdempotencyStore store = database.CreateStore(o => (o.Table, o.CreateSchema) = (table, false));

        IdempotencyClaim claim = await store.BeginAsync(Request());

        claim.Status.Should().Be(IdempotencyClaimStatus.Started);
        (await ScalarAsync<string[]>(database.Source, $"SELECT reloptions FROM pg_class WHERE relname = '{table}'")).Should().Contain(["fillfactor=70", "autovacuum_vacuum_scale_factor=0.02"]);
        (await ScalarAsync<long>(database.Source, $"SELECT count(*) FROM pg_index WHERE indrelid = '{table}'::regclass")).Should().Be(2);
    }

    [Fact]
    public async Task A_table_that_is_not_there_is_told_with_what_to_do()
    {
        await using PostgreSqlIdempotencyStore store = database.CreateStore(o => (o.Table, o.CreateSchema) = ("nowhere", false));

        Func<Task> begin = async () => await store.BeginAsync(Request());

        await begin.Should().ThrowAsync<IdempotencyStoreException>().WithMessage("*'tests'*public.nowhere*PostgreSqlIdempotencyStore.Script*");
    }

    [Fact]
    public async Task A_role_that_may_not_create_uses_a_table_that_is_there_and_is_told_when_there_is_none()
    {
        (string role, string table) = (NewTable(), NewTable());
        await ExecuteAsync(database.Source, PostgreSqlIdempotencyStore.Script(table: table));
        await ExecuteAsync(database.Source, $"CREATE ROLE {role} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}");
        await using NpgsqlDataSource source = NpgsqlDataSource.Create(new NpgsqlConnectionStringBuilder(database.ConnectionString) { Username = role, MaxPoolSize = 2 }.ConnectionString);
        await using PostgreSqlIdempotencyStore there = Create(source, o => o.Table = table), nowhere = Create(source);
        IdempotencyClaimRequest request = Request();

        IdempotencyClaim claim = await there.BeginAsync(request);
        bool completed = await there.CompleteAsync(claim.Key, claim.Fence, Outcome, Retention);
        Func<Task> begin = async () => await nowhere.BeginAsync(request);

        completed.Should().BeTrue();
        await begin.Should().ThrowAsync<IdempotencyStoreException>().WithMessage("*Script*");
        (await there.CleanUpAsync()).Should().Be(0);
    }

    [Fact]
    public async Task Applications_share_a_database_with_tables_of_their_own()
    {
        await using PostgreSqlIdempotencyStore one = database.CreateStore(), other = database.CreateStore();
        IdempotencyClaimRequest request = Request();

        IdempotencyClaim[] claims = [await one.BeginAsync(request), await other.BeginAsync(request)];

        claims.Should().OnlyContain(claim => claim.Status == IdempotencyClaimStatus.Started);
    }

    [Fact]
    public async Task Applications_share_a_table()
    {
        string table = NewTable();
        await using PostgreSqlIdempotencyStore one = database.CreateStore(o => o.Table = table), other = database.CreateStore(o => o.Table = table);
        var orders = new IdempotentExecutor(one, new IdempotencyOptions { Name = "orders" });
        var refunds = new IdempotentExecutor(other, new IdempotencyOptions { Name = "refunds" });

        await using IdempotentOperation first = await orders.BeginAsync(new IdempotencyScope("orders"), "key", Content);
        await using IdempotentOperation apart = await refunds.BeginAsync(new IdempotencyScope("refunds"), "key", Content);
        await using IdempotentOperation duplicate = await refunds.BeginAsync(new IdempotencyScope("orders"), "key", Content);

        (first.Status, apart.Status, duplicate.Status).Should().Be((IdempotencyStatus.Started, IdempotencyStatus.Started, IdempotencyStatus.InProgress));
    }

    [Theory]
    [InlineData("shop", "Upper")]
    [InlineData("shop", "a\"b")]
    [InlineData("shop", "1a")]
    [InlineData("a.b", "idempotency")]
    [InlineData("", "idempotency")]
    public void A_name_that_would_have_to_be_escaped_is_refused(string schema, string table)
    {
        Func<string> script = () => PostgreSqlIdempotencyStore.Script(schema, table);

        script.Should().Throw<ArgumentException>();
    }

    [Fact]
    public async Task Those_who_hold_all_connections_of_the_pool_begin_where_the_table_is_there()
    {
        const int All = 4;
        string table = NewTable();
        await ExecuteAsync(database.Source, PostgreSqlIdempotencyStore.Script(table: table));
        await using NpgsqlDataSource source = NpgsqlDataSource.Create($"{database.ConnectionString};Maximum Pool Size={All};Timeout=5");
        await using PostgreSqlIdempotencyStore store = Create(source, o => o.Table = table);
        await using PostgreSqlIdempotencyStore other = Create(source, o => o.Table = table);
        NpgsqlConnection[] connections = await Task.WhenAll(Enumerable.Range(0, All).Select(_ => source.OpenConnectionAsync().AsTask()));

        IdempotencyClaim[] claims = await Task.WhenAll(connections.Select(async connection =>
        {
            await using DbTransaction transaction = await store.BeginTransactionAsync(connection, Patience);
            return await other.ClaimAsync(Request(), transaction);
        }));

        claims.Should().OnlyContain(claim => claim.Status == IdempotencyClaimStatus.Started);
        await Task.WhenAll(connections.Select(connection => connection.DisposeAsync().AsTask()));
    }
}
