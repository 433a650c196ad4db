using System.Data.Common;
using Backend.Toolkit.Pagination.Tests;
using CsCheck;
using Microsoft.EntityFrameworkCore;

namespace Backend.Toolkit.Pagination.EntityFrameworkCore.Tests;

/// <summary>Rows that are inserted, deleted and moved between pages: those that nobody touched are seen exactly once, in order.</summary>
public sealed class MovingRowsTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();

    [Fact]
    public Task Untouched_rows_of_SQLite_are_seen_exactly_once() => CheckAsync(async rows => await Rows.SqliteAsync(rows));

    [Fact]
    public Task Untouched_rows_of_PostgreSQL_are_seen_exactly_once()
    {
        postgres.ConnectionString();
        return CheckAsync(async rows => await Rows.PostgreSqlAsync(postgres, rows));
    }

    private static Task CheckAsync(Func<Row[], Task<DbConnection>> open)
    {
        Gen<(int Kind, int Index, Row Row)[]> changes = Gen.Select(Gen.Int[0, 3], Gen.Int[0, 1000], Schema.GenRow(nan: false)).Array[0, 3];
        return Gen.Select(Schema.Gen("I S NI NS F D"), Schema.GenRows(nan: false), Gen.Int[1, 6], changes.Array[1, 12], Gen.Bool).SampleAsync(async (schema, rows, size, turns, backward) =>
        {
            await using DbConnection connection = await open(rows);
            await using var context = new RowsContext(connection);
            var touched = new HashSet<int>();
            var seen = new List<int>();
            int next = 1000;
            Page<Row> page = await context.Rows.ToPageAsync(Paginator, schema.Keyset, new PageRequest(null, size, backward ? PageDirection.Backward : PageDirection.Forward));
            for (int turn = 0; turn < 200; turn++)
            {
                seen.InsertRange(backward ? 0 : seen.Count, page.Items.Select(row => row.Id));
                List<int> present = [.. (await context.Rows.ToListAsync()).Order(Comparer<Row>.Create(schema.Compare)).Select(row => row.Id)];
                if (page.Items.Count > 0)
                {
                    (page.Previous is null).Should().Be(present[0] == page.Items[0].Id, "the ends are those of the rows that are there now");
                    (page.Next is null).Should().Be(present[^1] == page.Items[^1].Id);
                }

                if ((backward ? page.Previous : page.Next) is not string cursor)
                {
                    break;
                }

                foreach ((int kind, int index, Row values) in turn < turns.Length ? turns[turn] : [])
                {
                    // 0: insert; 1: delete any; 2: delete the anchor; 3: move.
                    if (kind == 0)
                    {
                        touched.Add(++next);
                        await Rows.InsertAsync(connection, [Schema.Numbered(values, next - 1)]);
                    }
                    else if (rows.Length > 0)
                    {
                        int id = kind == 2 && page.Items.Count > 0 ? page.Items[backward ? 0 : ^1].Id : rows[index % rows.Length].Id;
                        touched.Add(id);
                        await context.Rows.Where(row => row.Id == id).ExecuteDeleteAsync();
                        if (kind == 3)
                        {
                            await Rows.InsertAsync(connection, [Schema.Numbered(values, id - 1)]);
                        }
                    }
                }

                page = await context.Rows.ToPageAsync(Paginator, schema.Keyset, new PageRequest(cursor, size));
            }

            seen.Where(id => !touched.Contains(id)).Should().Equal(rows.Order(Comparer<Row>.Create(schema.Compare)).Select(row => row.Id).Where(id => !touched.Contains(id)));
        }, iter: 60, threads: 1, print: example => $"{example.Item1} | {example.Item3}\n{string.Join('\n', example.Item2.AsEnumerable())}");
    }
}
