using System.Data.Common;
using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Pagination.Tests;

/// <summary>A million rows in SQLite: every branch searches an index, and nothing is sorted.</summary>
public sealed class SqlitePlanTests(SqlitePlanTests.Million million) : IClassFixture<SqlitePlanTests.Million>
{
    private static readonly CursorPaginator Paginator = Paginators.New();

    public static TheoryData<string, PageDirection> Cases => [.. Orders.Keysets.SelectMany(keyset => new[] { (keyset.Name, PageDirection.Forward), (keyset.Name, PageDirection.Backward) })];

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Every_branch_is_a_search_and_nothing_is_sorted(string name, PageDirection direction)
    {
        (_, _, Keyset<Order> keyset) = Orders.Keysets.Single(candidate => candidate.Name == name);
        var offenders = new List<string>();
        foreach (Order row in Million.Anchors)
        {
            PageRequest request = new(Paginator.Seal(keyset, row, direction), 20);
            KeysetRequest<Order> opened = Paginator.Open(keyset, request);
            SeekPlan plan = opened.Plan(SqlDialect.Sqlite);

            List<string> steps = await ExplainAsync(KeysetSql.Render(SqlDialect.Sqlite, keyset, Orders.Select, opened));

            int searches = steps.Count(step => step.StartsWith("SEARCH orders USING ", StringComparison.Ordinal));
            if (searches != plan.Page.Count + plan.Behind.Count || steps.Any(step => step.Contains("TEMP B-TREE", StringComparison.Ordinal) || step.StartsWith("SCAN orders", StringComparison.Ordinal)))
            {
                offenders.Add($"{row}:\n{string.Join('\n', steps)}");
            }
        }

        offenders.Should().BeEmpty();
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task The_first_page_follows_an_index_and_nothing_is_sorted(string name, PageDirection direction)
    {
        (_, _, Keyset<Order> keyset) = Orders.Keysets.Single(candidate => candidate.Name == name);
        KeysetRequest<Order> opened = Paginator.Open(keyset, new PageRequest(null, 20, direction));

        List<string> steps = await ExplainAsync(KeysetSql.Render(SqlDialect.Sqlite, keyset, Orders.Select, opened));

        steps.Should().Contain(step => step.Contains(" orders USING ", StringComparison.Ordinal))
            .And.NotContain(step => step.Contains("TEMP B-TREE", StringComparison.Ordinal)).And.NotContain("SCAN orders");
    }

    private async Task<List<string>> ExplainAsync(KeysetQuery<Order> query)
    {
        await using DbCommand command = million.Connection.CreateCommand();
        query.Bind(command);
        command.CommandText = "EXPLAIN QUERY PLAN " + command.CommandText;
        await using DbDataReader reader = await command.ExecuteReaderAsync();
        var steps = new List<string>();
        while (await reader.ReadAsync())
        {
            steps.Add(reader.GetString(3));
        }

        return steps;
    }

    public sealed class Million : IAsyncLifetime
    {
        public SqliteConnection Connection { get; } = new("Data Source=:memory:");

        /// <summary>Shipped and not: a position among nulls has other branches than one among values.</summary>
        public static Order[] Anchors { get; } = [.. new[] { 2, 3, 500_000, 500_001, 999_999, 1_000_000 }.Select(id => new Order(id, new DateTime(2024, 6, 1).AddMinutes(id % 1000), id % 5, id % 3 > 0 ? new DateTime(2024, 8, 1).AddMinutes(id % 500) : null))];

        public async ValueTask InitializeAsync()
        {
            await Connection.OpenAsync();
            await Rows.ExecuteAsync(Connection, Orders.Numbers + Orders.Sqlite + Orders.Indexes + "ANALYZE;");
        }

        public ValueTask DisposeAsync() => Connection.DisposeAsync();
    }
}
