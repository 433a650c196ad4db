using Npgsql;

namespace Backend.Toolkit.Pagination.Tests;

/// <summary>Values have 100 ns, columns have less: pages lose and repeat nothing, from values as they were written too.</summary>
public sealed class TimestampTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();

    public static TheoryData<string, string?> Columns => new()
    {
        { "timestamptz", null },
        { "timestamptz(3)", "timestamptz(3)" },
        { "timestamptz(0)", "timestamptz(0)" },
        { "timestamp", null },
        { "timestamp(3)", "timestamp(3)" },
    };

    [Theory]
    [MemberData(nameof(Columns))]
    public async Task Rows_within_a_microsecond_and_around_a_rounding_are_all_seen(string column, string? type)
    {
        await using NpgsqlConnection connection = await postgres.ConnectAsync();
        await Rows.ExecuteAsync(connection, $"CREATE TEMPORARY TABLE instants (id int PRIMARY KEY, d {column} NOT NULL)");
        DateTimeKind kind = column.StartsWith("timestamptz", StringComparison.Ordinal) ? DateTimeKind.Utc : DateTimeKind.Unspecified;
        DateTime start = new(2024, 1, 1, 0, 0, 0, 499, kind);
        Row[] written = [.. Enumerable.Range(1, 40).Select(id => Schemas.Plain(id, start.AddTicks((id * 7 % 40 * 300) + 4_990), Status.New))];
        foreach (Row row in written)
        {
            await using var insert = new NpgsqlCommand("INSERT INTO instants VALUES (@id, @d)", connection);
            insert.Parameters.AddWithValue("id", row.Id);
            insert.Parameters.AddWithValue("d", row.D);
            await insert.ExecuteNonQueryAsync();
        }

        Keyset<Row> keyset = Keyset.For<Row>().Descending(row => row.D, "d", type: type).Unique(row => row.Id, "id");
        int[] expected = await IdsAsync(connection);
        Func<string?, Task<Page<Row>>> page = async cursor =>
        {
            await using NpgsqlCommand command = connection.CreateCommand();
            return await KeysetSql.Render(SqlDialect.PostgreSql, keyset, "SELECT id, d FROM instants", Paginator.Open(keyset, new PageRequest(cursor, 3)))
                .ToPageAsync(command, reader => Schemas.Plain(reader.GetInt32(0), reader.GetDateTime(1), Status.New));
        };

        var seen = new List<int>();
        string? next = null;
        do
        {
            Page<Row> read = await page(next);
            seen.AddRange(read.Items.Select(row => row.Id));
            next = read.Next;
        }
        while (next is not null);

        seen.Should().Equal(expected);
        foreach (Row row in written)
        {
            Page<Row> after = await page(Paginator.Seal(keyset, row, PageDirection.Forward));
            Page<Row> before = await page(Paginator.Seal(keyset, row, PageDirection.Backward));

            int at = Array.IndexOf(expected, row.Id);
            after.Items.Select(it => it.Id).Should().Equal(expected.Skip(at + 1).Take(3), "the value as written, {0:o}, is where the row is", row.D);
            before.Items.Select(it => it.Id).Should().Equal(expected.Take(at).TakeLast(3));
        }
    }

    [Fact]
    public async Task Another_collation_pages_by_the_databases_own_order()
    {
        await using NpgsqlConnection connection = await postgres.ConnectAsync();
        await Rows.ExecuteAsync(connection, "CREATE TEMPORARY TABLE instants (id int PRIMARY KEY, s text COLLATE \"en-x-icu\" NOT NULL)");
        string[] texts = ["a", "A", "á", "b", "B", "-a", "a-b", "ab", "Ab", "_", "z", "Z", "ß", "ss", "é", "e"];
        await Rows.ExecuteAsync(connection, string.Join(';', texts.Concat(texts).Select((text, i) => $"INSERT INTO instants VALUES ({i}, '{text}')")));
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.S, "s").Unique(row => row.Id, "id");
        int[] expected = await IdsAsync(connection, "s, id");
        var seen = new List<int>();
        string? cursor = null;
        do
        {
            await using NpgsqlCommand command = connection.CreateCommand();
            Page<Row> page = await KeysetSql.Render(SqlDialect.PostgreSql, keyset, "SELECT id, s FROM instants", Paginator.Open(keyset, new PageRequest(cursor, 3)))
                .ToPageAsync(command, reader => new Row { Id = reader.GetInt32(0), S = reader.GetString(1) });
            seen.AddRange(page.Items.Select(row => row.Id));
            cursor = page.Next;
        }
        while (cursor is not null);

        seen.Should().Equal(expected);
        expected.Select(id => texts[id % texts.Length]).Should().NotBeInAscendingOrder(StringComparer.Ordinal);
    }

    private static async Task<int[]> IdsAsync(NpgsqlConnection connection, string order = "d DESC, id DESC")
    {
        await using var command = new NpgsqlCommand($"SELECT array_agg(id ORDER BY {order}) FROM instants", connection);
        return (int[])(await command.ExecuteScalarAsync())!;
    }
}
