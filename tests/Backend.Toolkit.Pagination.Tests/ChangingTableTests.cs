using System.Data.Common;
using CsCheck;


namespace Backend.Toolkit.Pagination.Tests;

/// <summary>Rows come, go and move between pages, the anchor too: what was not touched is seen exactly once, in order, and the walk comes to an end.</summary>
public sealed class ChangingTableTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();

    private enum Change
    {
        DeleteAnchor,
        DeleteAny,
        DeleteAllAhead,
        Insert,
        Move,
    }

    [Fact]
    public Task In_memory_untouched_rows_are_seen_exactly_once() => Check(500, (rows, keyset) =>
    {
        var table = rows.ToDictionary(row => row.Id);
        return Task.FromResult(new Table(
            request => Task.FromResult(table.Values.ToPage(Paginator, keyset, request)),
            ids =>
            {
                Array.ForEach(ids, id => table.Remove(id));
                return Task.CompletedTask;
            },
            row =>
            {
                table[row.Id] = row;
                return Task.CompletedTask;
            },
            null));
    });

    [Fact]
    public Task In_SQLite_untouched_rows_are_seen_exactly_once() => Check(100, async (rows, keyset) => Of(await Rows.SqliteAsync(rows), keyset));

    [Fact]
    public Task In_PostgreSQL_untouched_rows_are_seen_exactly_once()
    {
        postgres.ConnectionString();
        return Check(100, async (rows, keyset) => Of(await Rows.PostgreSqlAsync(postgres, rows), keyset));
    }

    private static Table Of(DbConnection connection, Keyset<Row> keyset) => new(
        Rows.Source(connection, Paginator, keyset),
        ids => ids.Length == 0 ? Task.CompletedTask : Rows.ExecuteAsync(connection, $"DELETE FROM rows WHERE id IN ({string.Join(',', ids)})"),
        async row =>
        {
            await Rows.ExecuteAsync(connection, $"DELETE FROM rows WHERE id = {row.Id}");
            await Rows.InsertAsync(connection, [row]);
        },
        connection);

    private static Task Check(int iterations, Func<Row[], Keyset<Row>, Task<Table>> open) =>
        Gen.Select(Schema.Gen("I S D B E NI ND NS"), Schema.GenRows(nan: false), Gen.Int[1, 6], Gen.Bool, Gen.Select(Gen.Enum<Change>(), Gen.Int[0, 100], Schema.GenRow(nan: false)).Array[0, 12])
            .SampleAsync(async (schema, rows, size, backward, changes) =>
            {
                Table table = await open(rows, schema.Keyset);
                try
                {
                    await WalkAsync(schema, rows, size, backward, changes, table);
                }
                finally
                {
                    if (table.Owner is not null)
                    {
                        await table.Owner.DisposeAsync();
                    }
                }
            }, iter: iterations, threads: 1, print: example => $"{example.Item1} size {example.Item3} backward {example.Item4} {string.Join(',', example.Item5.Select(change => (change.Item1, change.Item2)))}\n{string.Join('\n', example.Item2.AsEnumerable())}");

    private static async Task WalkAsync(Schema schema, Row[] rows, int size, bool backward, (Change, int, Row)[] changes, Table table)
    {
        var present = rows.ToDictionary(row => row.Id);
        var touched = new HashSet<int>();
        var seen = new List<int>();
        int nextId = 1000;
        var queue = new Queue<(Change Change, int Pick, Row Row)>(changes);
        var request = new PageRequest(null, size, backward ? PageDirection.Backward : null);
        for (int turn = 0; turn < 500; turn++)
        {
            Page<Row> page = await table.Page(request);
            seen.AddRange(backward ? page.Items.Reverse().Select(row => row.Id) : page.Items.Select(row => row.Id));
            string? cursor = backward ? page.Previous : page.Next;
            if (cursor is null)
            {
                int[] untouched = [.. rows.Where(row => !touched.Contains(row.Id)).Order(Comparer<Row>.Create(schema.Compare)).Select(row => row.Id)];
                int[] seenOfThem = [.. seen.Where(id => id < 1000 && !touched.Contains(id))];
                seenOfThem.Should().Equal(backward ? untouched.Reverse() : untouched);
                return;
            }

            if (queue.TryDequeue(out (Change Change, int Pick, Row Row) next) && page.Items.Count > 0)
            {
                Row anchor = backward ? page.Items[0] : page.Items[^1];
                Row[] all = [.. present.Values];
                switch (next.Change)
                {
                    case Change.DeleteAnchor:
                        await RemoveAsync([anchor.Id]);
                        break;
                    case Change.DeleteAny when all.Length > 0:
                        await RemoveAsync([all[next.Pick % all.Length].Id]);
                        break;
                    case Change.DeleteAllAhead:
                        await RemoveAsync([.. all.Where(row => backward ? schema.Compare(row, anchor) < 0 : schema.Compare(row, anchor) > 0).Select(row => row.Id)]);
                        break;
                    case Change.Insert:
                        await PutAsync(Schema.Numbered(next.Row, nextId++));
                        break;
                    case Change.Move when all.Length > 0:
                        await PutAsync(Schema.Numbered(next.Row, all[next.Pick % all.Length].Id - 1));
                        break;
                    default:
                        break;
                }
            }

            request = new PageRequest(cursor, size);
        }

        Assert.Fail("The walk does not end.");

        async Task RemoveAsync(int[] ids)
        {
            await table.Remove(ids);
            foreach (int id in ids)
            {
                present.Remove(id);
                touched.Add(id);
            }
        }

        async Task PutAsync(Row row)
        {
            await table.Put(row);
            present[row.Id] = row;
            touched.Add(row.Id);
        }
    }

    [Fact]
    public async Task An_empty_page_leads_back_when_everything_after_the_anchor_was_deleted()
    {
        await using var connection = await Rows.SqliteAsync([.. Enumerable.Range(1, 6).Select(id => Schemas.Plain(id, DateTime.UnixEpoch, Status.New))]);
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.D, "d").Unique(row => row.Id, "id");
        Func<PageRequest, Task<Page<Row>>> source = Rows.Source(connection, Paginator, keyset);
        Page<Row> first = await source(new PageRequest(null, 3));
        await Rows.ExecuteAsync(connection, "DELETE FROM rows WHERE id > 3");

        Page<Row> empty = await source(new PageRequest(first.Next, 3));
        Page<Row> back = await source(new PageRequest(empty.Previous, 3));
        await Rows.ExecuteAsync(connection, "DELETE FROM rows");
        Page<Row> nothing = await source(new PageRequest(first.Next, 3));

        (empty.Items.Count, empty.Next).Should().Be((0, null));
        back.Items.Select(row => row.Id).Should().Equal(1, 2, 3);
        (back.Previous, back.Next).Should().Be((null, null));
        (nothing.Items.Count, nothing.Next, nothing.Previous).Should().Be((0, null, null));
    }

    private sealed record Table(Func<PageRequest, Task<Page<Row>>> Page, Func<int[], Task> Remove, Func<Row, Task> Put, IAsyncDisposable? Owner);
}
