using System.Data.Common;
using System.Globalization;
using System.Text.Json;
using Backend.Toolkit.Pagination.Tests;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>What a page of a million rows reads, by the statement that Entity Framework sends.</summary>
public sealed class PlanTests(PlanTests.Million million) : IClassFixture<PlanTests.Million>
{
    private const int Size = 20;

    private static readonly CursorPaginator Paginator = Paginators.New();

    public static TheoryData<string, PageDirection> Cases => [.. Orders.Keysets.SelectMany(keyset => new[] { (keyset.Name, PageDirection.Forward), (keyset.Name, PageDirection.Backward) })];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task PostgreSQL_reads_few_buffers_at_any_depth(string name, PageDirection direction)
    {
        (_, string index, Keyset<Order> keyset) = Orders.Keysets.Single(candidate => candidate.Name == name);
        var witness = new Witness();
        await using NpgsqlConnection connection = await million.PostgreSqlAsync();
        await using var context = new MillionContext(connection, witness);
        await using var level = new NpgsqlCommand($"SELECT level FROM bt_metap('{index}')", connection);
        int height = Convert.ToInt32(await level.ExecuteScalarAsync(), CultureInfo.InvariantCulture) + 1;
        var offenders = new List<string>();
        foreach (PageRequest request in Requests(keyset, direction))
        {
            SeekPlan plan = Paginator.Open(keyset, request).Plan(SqlDialect.PostgreSql, rowValues: false);
            int most = ((plan.Page.Count + plan.Behind.Count) * (height + 1)) + (plan.Page.Count * (Size + 1));
            await context.Orders.ToPageAsync(Paginator, keyset, request);
            (string sql, DbParameter[] parameters) = (witness.Statements[^1], witness.Parameters[^1]);

            (long buffers, string text) = await BuffersAsync(connection, sql, parameters);

            plan.Page.Count.Should().BeLessThanOrEqualTo(keyset.Columns.Count + keyset.Columns.Count(column => column.IsNullable));
            if (buffers > most)
            {
                offenders.Add($"{buffers} buffers, more than {most}\n{sql}\n{text}");
            }
        }

        offenders.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task SQLite_searches_in_every_branch_and_sorts_no_more_than_a_page_of_nulls_and_values(string name, PageDirection direction)
    {
        (_, _, Keyset<Order> keyset) = Orders.Keysets.Single(candidate => candidate.Name == name);
        var witness = new Witness();
        await using var context = new MillionContext(million.Sqlite, witness);
        var offenders = new List<string>();
        foreach (PageRequest request in Requests(keyset, direction))
        {
            KeysetRequest<Order> opened = Paginator.Open(keyset, request);
            SeekPlan plan = opened.Plan(SqlDialect.Sqlite, rowValues: false);
            witness.Clear();
            await context.Orders.ToPageAsync(Paginator, keyset, request);

            List<string> steps = await StepsAsync(million.Sqlite, witness.Statements[0], witness.Parameters[0]);

            // What is behind is written once, and flattened into each branch. A scan of what a subquery gives is none of a table.
            bool scans = steps.Any(step => step.StartsWith("SCAN ", StringComparison.Ordinal) && !step.Contains("INDEX", StringComparison.Ordinal) && !steps.Contains("CO-ROUTINE " + step[5..]));
            bool searches = !opened.HasPosition || steps.Count(step => step.StartsWith("SEARCH o", StringComparison.Ordinal)) >= plan.Page.Count + plan.Behind.Count;
            bool sorts = steps.Any(step => step.Contains("TEMP B-TREE", StringComparison.Ordinal));

            // LINQ cannot say NULLS LAST: then each branch is limited, and what is sorted are those few.
            bool mixesNulls = name == "nulls last, ascending" || name == "nulls first, descending";
            if (scans || !searches || (sorts && !mixesNulls) || steps.Count(step => step.Contains("TEMP B-TREE", StringComparison.Ordinal)) > 1)
            {
                offenders.Add($"{witness.Statements[0]}\n{string.Join('\n', steps)}");
            }
        }

        offenders.Should().BeEmpty();
    }

    [Fact]
    public async Task The_usual_LINQ_with_or_reads_what_the_bound_forbids()
    {
        var witness = new Witness();
        await using NpgsqlConnection connection = await million.PostgreSqlAsync();
        await using var context = new MillionContext(connection, witness);
        DateTime created = new(2024, 1, 18, 0, 0, 0, DateTimeKind.Utc);
        int id = 500_000;
        await context.Orders.Where(o => o.Created < created || (o.Created == created && o.Id < id)).OrderByDescending(o => o.Created).ThenByDescending(o => o.Id).Take(21).ToListAsync();

        (long buffers, _) = await BuffersAsync(connection, witness.Statements[^1], witness.Parameters[^1]);

        buffers.Should().BeGreaterThan(1000, "else the tests above would prove nothing");
    }

    private static IEnumerable<PageRequest> Requests(Keyset<Order> keyset, PageDirection direction) =>
        new[] { 3, 222_223, 500_000, 500_001, 777_778, 999_998 }
            .Select(id => new Order(id, new DateTime(2024, 1, 1, 0, 0, 0, DateTimeKind.Utc).AddMinutes((long)id * 7919 % 250_000), id % 5, id % 3 > 0 ? new DateTime(2024, 6, 1, 0, 0, 0, DateTimeKind.Utc).AddMinutes((long)id * 104_729 % 300_000) : null))
            .Select(row => new PageRequest(Paginator.Seal(keyset, row, direction), Size)).Prepend(new PageRequest(null, Size, direction));

    private static async Task<(long Buffers, string Text)> BuffersAsync(NpgsqlConnection connection, string sql, DbParameter[] parameters)
    {
        await using NpgsqlCommand command = connection.CreateCommand();
        command.CommandText = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql;
        command.Parameters.AddRange(parameters);

        // The first time a connection reads the catalog, too.
        await command.ExecuteScalarAsync();
        string json = (string)(await command.ExecuteScalarAsync())!;
        using JsonDocument document = JsonDocument.Parse(json);
        JsonElement plan = document.RootElement[0].GetProperty("Plan");
        return (plan.GetProperty("Shared Hit Blocks").GetInt64() + plan.GetProperty("Shared Read Blocks").GetInt64(), string.Join('\n', json.Split('\n').Where(line => line.Contains("Node Type") || line.Contains("Cond") || line.Contains("Hit Blocks"))));
    }

    private static async Task<List<string>> StepsAsync(SqliteConnection connection, string sql, DbParameter[] parameters)
    {
        await using SqliteCommand command = connection.CreateCommand();
        command.CommandText = "EXPLAIN QUERY PLAN " + sql;
        foreach (DbParameter parameter in parameters)
        {
            command.Parameters.AddWithValue(parameter.ParameterName, parameter.Value);
        }

        await using DbDataReader reader = await command.ExecuteReaderAsync();
        var steps = new List<string>();
        while (await reader.ReadAsync())
        {
            steps.Add(reader.GetString(3));
        }

        return steps;
    }

    internal sealed class MillionContext(DbConnection connection, Witness witness) : DbContext((connection is NpgsqlConnection
        ? new DbContextOptionsBuilder<MillionContext>().UseNpgsql(connection)
        : new DbContextOptionsBuilder<MillionContext>().UseSqlite(connection)).AddInterceptors(witness).UseQueryTrackingBehavior(QueryTrackingBehavior.NoTracking).Options)
    {
        public DbSet<Order> Orders => Set<Order>();

        protected override void OnModelCreating(ModelBuilder modelBuilder)
        {
            modelBuilder.Entity<Order>().ToTable("orders");
            foreach (Microsoft.EntityFrameworkCore.Metadata.IMutableProperty property in modelBuilder.Entity<Order>().Metadata.GetProperties())
            {
                property.SetColumnName(property.Name.ToLowerInvariant());
            }
        }
    }

    public sealed class Million(PostgreSqlServer server) : IAsyncLifetime
    {
        private string? _database;

        public SqliteConnection Sqlite { get; } = new("Data Source=:memory:");

        public async ValueTask InitializeAsync()
        {
            await Sqlite.OpenAsync();
            await Rows.ExecuteAsync(Sqlite, Orders.Numbers + Orders.Sqlite + Orders.Indexes + "ANALYZE;");
            if (!server.IsAvailable)
            {
                return;
            }

            _database = $"million_{Guid.NewGuid():N}";
            await using NpgsqlConnection admin = await server.ConnectAsync();
            await Rows.ExecuteAsync(admin, $"CREATE DATABASE {_database}");
            await using NpgsqlConnection connection = await PostgreSqlAsync();
            await Rows.ExecuteAsync(connection, "CREATE EXTENSION pageinspect; " + Orders.PostgreSql + Orders.Indexes);
            await Rows.ExecuteAsync(connection, "VACUUM (ANALYZE) orders");
        }

        public async Task<NpgsqlConnection> PostgreSqlAsync()
        {
            var connection = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(server.ConnectionString()) { Database = _database, Pooling = false }.ConnectionString);
            await connection.OpenAsync();
            return connection;
        }

        public async ValueTask DisposeAsync()
        {
            await Sqlite.DisposeAsync();
            if (_database is not null)
            {
                await using NpgsqlConnection admin = await server.ConnectAsync();
                await Rows.ExecuteAsync(admin, $"DROP DATABASE {_database} WITH (FORCE)");
            }
        }
    }
}
