using System.Data.Common;
using Backend.Toolkit.Pagination.Tests;
using CsCheck;
using Microsoft.EntityFrameworkCore;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>Whatever the columns, directions, null orders, ties and page sizes: pages put together are the full ordered list.</summary>
public sealed class FullScanModelTests(PostgreSqlServer postgres)
{
    private const string InSqlite = "I L S G D F B E NI ND NG NF NS";
    private const string InPostgreSql = "I L S G D O M F B E NI ND NG NF NS";

    private static readonly CursorPaginator Paginator = Paginators.New(o => o.MaxSize = 1000);

    [Fact]
    public Task Pages_of_SQLite_are_the_full_list() => CheckAsync(InSqlite, nan: false, async rows => await Rows.SqliteAsync(rows), (context, keyset, request) => context.Rows.ToPageAsync(Paginator, keyset, request));

    [Fact]
    public Task Pages_of_PostgreSQL_are_the_full_list()
    {
        postgres.ConnectionString();
        return CheckAsync(InPostgreSql, nan: true, async rows => await Rows.PostgreSqlAsync(postgres, rows), (context, keyset, request) => context.Rows.ToPageAsync(Paginator, keyset, request));
    }

    [Fact]
    public Task Rows_that_are_joined_with_their_keys_are_the_full_list_of_SQLite() =>
        CheckAsync(InSqlite, nan: false, async rows => await Rows.SqliteAsync(rows), (context, keyset, request) => JoinedAsync(context, keyset, request));

    [Fact]
    public Task Rows_that_are_joined_with_their_keys_are_the_full_list_of_PostgreSQL()
    {
        postgres.ConnectionString();
        return CheckAsync(InPostgreSql, nan: true, async rows => await Rows.PostgreSqlAsync(postgres, rows), JoinedAsync);
    }

    [Fact]
    public Task Compiled_pages_are_the_full_list() => CheckAsync(InSqlite, nan: false, async rows => await Rows.SqliteAsync(rows), (context, keyset, request) =>
        CompiledOf(keyset).ToPageAsync(context, int.MinValue, Paginator, request));

    private static readonly System.Runtime.CompilerServices.ConditionalWeakTable<Keyset<Row>, CompiledPageQuery<RowsContext, int, Row, Row>> Compiled = [];

    private static CompiledPageQuery<RowsContext, int, Row, Row> CompiledOf(Keyset<Row> keyset) =>
        Compiled.GetValue(keyset, static keyset => CompiledPageQuery.Create((RowsContext context, int least) => context.Rows.Where(row => row.Id >= least), keyset));

    /// <summary>A collection in the projection, which no union can have.</summary>
    private static async Task<Page<Row>> JoinedAsync(RowsContext context, Keyset<Row> keyset, PageRequest request)
    {
        Page<(Row Row, int[] Ids)> page = await Tuples(context, keyset, request);
        page.Items.SelectMany(item => item.Ids).Should().Equal(page.Items.Select(item => item.Row.Id));
        return new Page<Row>([.. page.Items.Select(item => item.Row)], page.Next, page.Previous);
    }

    private static async Task<Page<(Row Row, int[] Ids)>> Tuples(RowsContext context, Keyset<Row> keyset, PageRequest request)
    {
        var page = await context.Rows.ToPageAsync(Paginator, keyset, request, row => new { Row = row, Ids = context.Rows.Where(other => other.Id == row.Id).Select(other => other.Id).ToArray() });
        return new Page<(Row, int[])>([.. page.Items.Select(item => (item.Row, item.Ids))], page.Next, page.Previous);
    }

    private static Task CheckAsync(string columns, bool nan, Func<Row[], Task<DbConnection>> open, Func<RowsContext, Keyset<Row>, PageRequest, Task<Page<Row>>> read) =>
        Gen.Select(Schema.Gen(columns), Schema.GenRows(nan), Gen.Int[1, 12].Array[1, 8])
            .SampleAsync(async (schema, rows, sizes) =>
            {
                await using DbConnection connection = await open(rows);
                await using var context = new RowsContext(connection);
                int[] expected = [.. rows.Order(Comparer<Row>.Create(schema.Compare)).Select(row => row.Id)];

                await Walk.CheckAsync(expected, sizes, row => row.Id, request => read(context, schema.Keyset, request));
            }, iter: 60, threads: 1, print: example => $"{example.Item1} | {string.Join(',', example.Item3)} |\n{string.Join('\n', example.Item2.AsEnumerable())}");
}
