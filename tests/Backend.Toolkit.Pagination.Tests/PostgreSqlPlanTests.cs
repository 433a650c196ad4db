using System.Data.Common;
using System.Globalization;
using System.Text.Json;
using Npgsql;

namespace Backend.Toolkit.Pagination.Tests;

/// <summary>A million rows in PostgreSQL: each page reads what its branches descend to, at any depth.</summary>
public sealed class PostgreSqlPlanTests(PostgreSqlPlanTests.Million million) : IClassFixture<PostgreSqlPlanTests.Million>
{
    private const int Size = 20;

    private static readonly CursorPaginator Paginator = Paginators.New();

    public static TheoryData<string, PageDirection> Cases => [.. Orders.Keysets.SelectMany(keyset => new[] { (keyset.Name, PageDirection.Forward), (keyset.Name, PageDirection.Backward) })];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_page_reads_few_buffers_at_any_depth(string name, PageDirection direction)
    {
        (_, string index, Keyset<Order> keyset) = Orders.Keysets.Single(candidate => candidate.Name == name);
        await using NpgsqlConnection connection = await million.ConnectAsync();
        int height = await HeightAsync(connection, index);
        var offenders = new List<string>();
        foreach (string? cursor in await CursorsAsync(connection, keyset, direction))
        {
            KeysetRequest<Order> opened = Paginator.Open(keyset, new PageRequest(cursor, Size, direction));
            SeekPlan plan = opened.Plan(SqlDialect.PostgreSql);
            int branches = plan.Page.Count;
            int most = ((branches + plan.Behind.Count) * (height + 1)) + (branches * (Size + 1));

            (long buffers, string explained) = await ExplainAsync(connection, KeysetSql.Render(SqlDialect.PostgreSql, keyset, Orders.Select, opened));

            branches.Should().BeLessThanOrEqualTo(keyset.Columns.Count + keyset.Columns.Count(column => column.IsNullable));
            if (buffers > most)
            {
                offenders.Add($"{buffers} buffers, more than {most}\n{explained}");
            }
        }

        offenders.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_prepared_plan_that_knows_no_values_seeks_too(string name, PageDirection direction)
    {
        (_, string index, Keyset<Order> keyset) = Orders.Keysets.Single(candidate => candidate.Name == name);
        await using NpgsqlConnection connection = await million.ConnectAsync();
        int height = await HeightAsync(connection, index);
        await Rows.ExecuteAsync(connection, "SET plan_cache_mode = force_generic_plan");
        foreach (string? cursor in await CursorsAsync(connection, keyset, direction))
        {
            KeysetRequest<Order> opened = Paginator.Open(keyset, new PageRequest(cursor, Size, direction));
            SeekPlan plan = opened.Plan(SqlDialect.PostgreSql);

            (long buffers, _) = await ExplainAsync(connection, KeysetSql.Render(SqlDialect.PostgreSql, keyset, Orders.Select, opened));

            buffers.Should().BeLessThanOrEqualTo(((plan.Page.Count + plan.Behind.Count) * (height + 1)) + (plan.Page.Count * (Size + 1)));
        }
    }

    [Fact]
    public async Task The_form_with_or_reads_what_the_bound_forbids()
    {
        await using NpgsqlConnection connection = await million.ConnectAsync();
        await using var command = new NpgsqlCommand($"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {Orders.Select} WHERE created < @c OR (created = @c AND id < @i) ORDER BY created DESC, id DESC LIMIT 21", connection);
        command.Parameters.AddWithValue("c", new DateTime(2024, 1, 18, 0, 0, 0, DateTimeKind.Utc));
        command.Parameters.AddWithValue("i", 500_000);

        (long buffers, _) = Read((string)(await command.ExecuteScalarAsync())!);

        buffers.Should().BeGreaterThan(1000, "else the tests above would prove nothing");
    }

    /// <summary>None, those at both ends, and of rows that are spread over all values, with and without nulls.</summary>
    private static async Task<List<string?>> CursorsAsync(NpgsqlConnection connection, Keyset<Order> keyset, PageDirection direction)
    {
        var rows = new List<Order>();
        foreach (PageDirection end in Enum.GetValues<PageDirection>())
        {
            await using NpgsqlCommand first = connection.CreateCommand();
            Page<Order> page = await KeysetSql.Render(SqlDialect.PostgreSql, keyset, Orders.Select, Paginator.Open(keyset, new PageRequest(null, Size, end))).ToPageAsync(first, Map);
            rows.AddRange([page.Items[0], page.Items[^1]]);
        }

        await using var command = new NpgsqlCommand($"{Orders.Select} WHERE id IN (3, 111111, 222223, 333333, 444445, 555557, 666666, 777778, 888889, 999998)", connection);
        await using NpgsqlDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            rows.Add(Map(reader));
        }

        return [null, .. rows.Select(row => Paginator.Seal(keyset, row, direction))];
    }

    private static Order Map(DbDataReader reader) => new(reader.GetInt32(0), reader.GetDateTime(1), reader.GetInt32(2), reader.IsDBNull(3) ? null : reader.GetDateTime(3));

    private static async Task<int> HeightAsync(NpgsqlConnection connection, string index)
    {
        await using var command = new NpgsqlCommand($"SELECT level FROM bt_metap('{index}')", connection);
        return Convert.ToInt32(await command.ExecuteScalarAsync(), CultureInfo.InvariantCulture) + 1;
    }

    private static async Task<(long Buffers, string Text)> ExplainAsync(NpgsqlConnection connection, KeysetQuery<Order> query)
    {
        await using NpgsqlCommand command = connection.CreateCommand();
        query.Bind(command);
        command.CommandText = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + command.CommandText;

        // The first sort of a connection reads how its types are compared from the catalog: once more, to see what a page reads.
        await command.ExecuteScalarAsync();
        return Read((string)(await command.ExecuteScalarAsync())!);
    }

    private static (long Buffers, string Text) Read(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        JsonElement plan = document.RootElement[0].GetProperty("Plan");
        return (plan.GetProperty("Shared Hit Blocks").GetInt64() + plan.GetProperty("Shared Read Blocks").GetInt64(), string.Join('\n', json.Split('\n').Where(line => line.Contains("Node Type") || line.Contains("Cond") || line.Contains("Hit Blocks"))));
    }

    public sealed class Million(PostgreSqlServer server) : IAsyncLifetime
    {
        private string? _database;

        public async ValueTask InitializeAsync()
        {
            if (!server.IsAvailable)
            {
                return;
            }

            _database = $"million_{Guid.NewGuid():N}";
            await using NpgsqlConnection admin = await server.ConnectAsync();
            await Rows.ExecuteAsync(admin, $"CREATE DATABASE {_database}");
            await using NpgsqlConnection connection = await ConnectAsync();
            await Rows.ExecuteAsync(connection, "CREATE EXTENSION pageinspect; " + Orders.PostgreSql + Orders.Indexes);
            await Rows.ExecuteAsync(connection, "VACUUM (ANALYZE) orders");
        }

        public async Task<NpgsqlConnection> ConnectAsync()
        {
            var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(server.ConnectionString()) { Database = _database, Pooling = false }.ConnectionString);
            await connection.OpenAsync();
            return connection;
        }

        public async ValueTask DisposeAsync()
        {
            if (_database is not null)
            {
                await using NpgsqlConnection admin = await server.ConnectAsync();
                await Rows.ExecuteAsync(admin, $"DROP DATABASE {_database} WITH (FORCE)");
            }
        }
    }
}
