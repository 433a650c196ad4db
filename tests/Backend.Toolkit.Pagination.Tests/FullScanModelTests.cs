using CsCheck;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace Backend.Toolkit.Pagination.Tests;

/// <summary>Whatever the columns, directions, null orders, ties and page sizes: pages put together are the full ordered list, both ways, and the ends are exact.</summary>
public sealed class FullScanModelTests(PostgreSqlServer postgres)
{
    private const string InMemory = "I L S G D O M F B E NI ND NG NF NS";
    private const string InSqlite = "I L S G D F B E NI ND NG NF NS"; // neither decimals nor offsets: SQLite keeps them as text

    private static readonly CursorPaginator Paginator = Paginators.New(o => o.MaxSize = 1000);

    [Fact]
    public Task Pages_in_memory_are_the_full_list() => Check(InMemory, nan: true, 1000, (schema, rows, _) => Task.FromResult<(Func<PageRequest, Task<Page<Row>>>, IAsyncDisposable?)>(
        (request => Task.FromResult(rows.ToPage(Paginator, schema.Keyset, request)), null)));

    [Fact]
    public Task Pages_of_a_sorted_list_are_the_full_list() => Check(InMemory, nan: true, 1000, (schema, rows, _) =>
    {
        Row[] sorted = [.. rows];
        Array.Sort(sorted, schema.Keyset);
        return Task.FromResult<(Func<PageRequest, Task<Page<Row>>>, IAsyncDisposable?)>((request => Task.FromResult(sorted.ToPageOfSorted(Paginator, schema.Keyset, request)), null));
    });

    [Fact]
    public Task Pages_of_SQLite_are_the_full_list() => Check(InSqlite, nan: false, 200, async (schema, rows, _) =>
    {
        SqliteConnection connection = await Rows.SqliteAsync(rows);
        return (Rows.Source(connection, Paginator, schema.Keyset), connection);
    });

    [Fact]
    public Task Pages_of_PostgreSQL_are_the_full_list()
    {
        postgres.ConnectionString();
        return Check(InMemory, nan: true, 200, async (schema, rows, _) =>
        {
            NpgsqlConnection connection = await Rows.PostgreSqlAsync(postgres, rows);
            return (Rows.Source(connection, Paginator, schema.Keyset), connection);
        });
    }

    private static Task Check(string columns, bool nan, int iterations, Func<Schema, Row[], int, Task<(Func<PageRequest, Task<Page<Row>>> Source, IAsyncDisposable? Owner)>> open) =>
        Gen.Select(Schema.Gen(columns), Schema.GenRows(nan), Gen.Int[1, 12].Array[1, 8])
            .SampleAsync(async (schema, rows, sizes) =>
            {
                (Func<PageRequest, Task<Page<Row>>> source, IAsyncDisposable? owner) = await open(schema, rows, 0);
                try
                {
                    await WalkAsync(schema, rows, sizes, source);
                }
                finally
                {
                    if (owner is not null)
                    {
                        await owner.DisposeAsync();
                    }
                }
            }, iter: iterations, threads: 1, print: example => $"{example.Item1} | {string.Join(',', example.Item3)} |\n{string.Join('\n', example.Item2.AsEnumerable())}");

    private static async Task WalkAsync(Schema schema, Row[] rows, int[] sizes, Func<PageRequest, Task<Page<Row>>> source)
    {
        int[] expected = [.. rows.Order(Comparer<Row>.Create(schema.Compare)).Select(row => row.Id)];

        // Forward, and from each page back to the one before.
        var seen = new List<int>();
        string? cursor = null;
        Page<Row>? before = null;
        for (int turn = 0; ; turn++)
        {
            int size = sizes[turn % sizes.Length];
            Page<Row> page = await source(new PageRequest(cursor, size));
            Ids(page).Should().Equal(expected.Skip(seen.Count).Take(size));
            (page.Previous is null).Should().Be(seen.Count == 0, "previous is null exactly at the start");
            if (before is not null)
            {
                Page<Row> back = await source(new PageRequest(page.Previous, before.Items.Count));
                Ids(back).Should().Equal(Ids(before));
                back.Next.Should().Be(before.Next, "the same position has the same cursor");
                back.Previous.Should().Be(before.Previous);
            }

            seen.AddRange(Ids(page));
            (page.Next is null).Should().Be(seen.Count == expected.Length, "next is null exactly at the end");
            before = page;
            cursor = page.Next;
            if (cursor is null)
            {
                break;
            }
        }

        seen.Should().Equal(expected);

        // Backward from the end, and from each page on to the one after.
        seen.Clear();
        before = null;
        Page<Row> last = await source(new PageRequest(null, sizes[0], PageDirection.Backward));
        for (int turn = 1; ; turn++)
        {
            (last.Next is null).Should().Be(seen.Count == 0);
            seen.InsertRange(0, Ids(last));
            Ids(last).Should().Equal(expected.Skip(expected.Length - seen.Count).Take(last.Items.Count));
            (last.Previous is null).Should().Be(seen.Count == expected.Length);
            if (before is not null)
            {
                Page<Row> on = await source(new PageRequest(last.Next, before.Items.Count));
                Ids(on).Should().Equal(Ids(before));
                on.Next.Should().Be(before.Next);
                on.Previous.Should().Be(before.Previous);
            }

            if (last.Previous is null)
            {
                break;
            }

            before = last;
            last = await source(new PageRequest(last.Previous, sizes[turn % sizes.Length]));
        }

        seen.Should().Equal(expected);
    }

    private static IEnumerable<int> Ids(Page<Row> page) => page.Items.Select(row => row.Id);
}
