using System.Data;
using System.Data.Common;
using Dapper;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace Backend.Toolkit.Pagination.Tests;

public sealed class SqlTests(PostgreSqlServer postgres)
{
    private static readonly CursorPaginator Paginator = Paginators.New();
    private static readonly Keyset<Row> Newest = Keyset.For<Row>().Descending(row => row.D, "d").Unique(row => row.Id, "id");

    [Fact]
    public void The_select_is_a_derived_table_and_the_keys_are_parameters()
    {
        KeysetQuery<Row> query = KeysetSql.Render(SqlDialect.PostgreSql, Newest, "SELECT * FROM rows WHERE e = @status -- paid", After(Newest, new Row { Id = 7, D = new DateTime(2024, 1, 2, 0, 0, 0, DateTimeKind.Utc) }, 10));

        query.Sql.Should().Be("""
            SELECT * FROM (
            (SELECT k.*, 0 AS keyset_behind FROM (
            SELECT * FROM rows WHERE e = @status -- paid
            ) AS k
            WHERE (k."d", k."id") < (@keyset0, @keyset1)
            ORDER BY k."d" DESC, k."id" DESC
            LIMIT 11)
            UNION ALL
            (SELECT k.*, 1 AS keyset_behind FROM (
            SELECT * FROM rows WHERE e = @status -- paid
            ) AS k
            WHERE (k."d", k."id") >= (@keyset0, @keyset1)
            ORDER BY k."d", k."id"
            LIMIT 1)
            ) AS k
            ORDER BY keyset_behind DESC, k."d" DESC, k."id" DESC
            LIMIT 12
            """.ReplaceLineEndings("\n"));
        query.Parameters.Should().Equal(new KeysetParameter("keyset0", new DateTime(2024, 1, 2, 0, 0, 0, DateTimeKind.Utc), null), new KeysetParameter("keyset1", 7, DbType.Int32));
    }

    [Fact]
    public void SQLite_has_plain_branches_under_one_order_and_limit()
    {
        KeysetQuery<Row> query = KeysetSql.Render(SqlDialect.Sqlite, Newest, "SELECT * FROM rows", After(Newest, new Row(), 10));

        query.Sql.Should().Be("""
            SELECT * FROM (
            SELECT k.*, 0 AS keyset_behind FROM (
            SELECT * FROM rows
            ) AS k
            WHERE k."d" = @keyset0 AND k."id" < @keyset1
            UNION ALL
            SELECT k.*, 0 AS keyset_behind FROM (
            SELECT * FROM rows
            ) AS k
            WHERE k."d" < @keyset0
            ORDER BY "d" DESC, "id" DESC
            LIMIT 11
            ) UNION ALL SELECT * FROM (
            SELECT k.*, 1 AS keyset_behind FROM (
            SELECT * FROM rows
            ) AS k
            WHERE k."d" = @keyset0 AND k."id" >= @keyset1
            UNION ALL
            SELECT k.*, 1 AS keyset_behind FROM (
            SELECT * FROM rows
            ) AS k
            WHERE k."d" > @keyset0
            ORDER BY "d", "id"
            LIMIT 1
            )
            """.ReplaceLineEndings("\n"));
    }

    [Fact]
    public void Parameters_have_the_type_of_the_column()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.E, "e").Ascending(row => row.NS, "ns", NullOrder.Last).Ascending(row => (uint)row.I, "u").Ascending(row => (byte)row.I, "b").Ascending(row => (ulong)row.L, "ul")
            .Ascending(row => row.O, "o").Ascending(row => row.F, "f", type: "real").Unique(row => row.GuidId, "guid_id");
        var row = new Row { E = Status.Shipped, NS = null, I = 5, L = 6, O = new DateTimeOffset(2024, 1, 1, 5, 0, 0, TimeSpan.FromHours(5)), F = 0.5 };

        KeysetQuery<Row> query = KeysetSql.Render(SqlDialect.PostgreSql, keyset, "SELECT 1", After(keyset, row, 10));

        query.Parameters.Should().Equal(
            new KeysetParameter("keyset0", 100, DbType.Int32), new KeysetParameter("keyset2", 5L, DbType.Int64), new KeysetParameter("keyset3", (short)5, DbType.Int16), new KeysetParameter("keyset4", 6m, DbType.Decimal),
            new KeysetParameter("keyset5", new DateTimeOffset(2024, 1, 1, 0, 0, 0, TimeSpan.Zero), null), new KeysetParameter("keyset6", 0.5, DbType.Double), new KeysetParameter("keyset7", Guid.Empty, DbType.Guid));
        ((DateTimeOffset)query.Parameters[4].Value).Offset.Should().Be(TimeSpan.Zero, "Npgsql takes no other");
        query.Sql.Should().Contain("CAST(@keyset6 AS real)").And.NotContain("@keyset1");
    }

    [Fact]
    public void A_name_is_quoted_whatever_is_in_it()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Unique(row => row.Id, "Id\" OR 1=1 --");

        KeysetQuery<Row> query = KeysetSql.Render(SqlDialect.Sqlite, keyset, "SELECT 1", Paginator.Open(keyset, new PageRequest()));

        query.Sql.Should().Contain("ORDER BY k.\"Id\"\" OR 1=1 --\"");
    }

    [Fact]
    public void What_SQLite_would_order_wrongly_is_refused_with_advice()
    {
        Keyset<Row>[] keysets =
        [
            Keyset.For<Row>().Ascending(row => row.M, "m").Unique(row => row.Id, "id"),
            Keyset.For<Row>().Ascending(row => row.O, "m").Unique(row => row.Id, "id"),
            Keyset.For<Row>().Ascending(row => (ulong)row.L, "m").Unique(row => row.Id, "id"),
            Keyset.For<Row>().Ascending(row => row.D - DateTime.UnixEpoch, "m").Unique(row => row.Id, "id"),
            Keyset.For<Row>().Ascending(row => (ulong?)row.NI, NullOrder.First, "m").Unique(row => row.Id, "id"),
        ];

        IEnumerable<Action> renders = keysets.Select(keyset => (Action)(() => KeysetSql.Render(SqlDialect.Sqlite, keyset, "SELECT 1", Paginator.Open(keyset, new PageRequest()))));

        renders.Should().AllSatisfy(render => render.Should().Throw<NotSupportedException>().WithMessage("Column m: SQLite keeps*order by*"));
    }

    [Fact]
    public void A_select_that_ends_a_statement_is_refused()
    {
        Action render = () => KeysetSql.Render(SqlDialect.Sqlite, Newest, "SELECT 1; ", Paginator.Open(Newest, new PageRequest()));

        render.Should().Throw<ArgumentException>().WithMessage("The SELECT must not end with a semicolon*");
    }

    [Theory]
    [InlineData("@keyset0")]
    [InlineData("@KEYSET15")]
    [InlineData(":keyset1")]
    public void A_select_with_a_parameter_named_like_those_of_the_position_is_refused(string parameter)
    {
        Action render = () => KeysetSql.Render(SqlDialect.PostgreSql, Newest, $"SELECT * FROM rows WHERE e = {parameter}", Paginator.Open(Newest, new PageRequest()));
        Action renderOther = () => KeysetSql.Render(SqlDialect.PostgreSql, Newest, "SELECT * FROM rows WHERE e = @keyset AND f = @keysetId", Paginator.Open(Newest, new PageRequest()));

        render.Should().Throw<ArgumentException>().WithMessage("The SELECT has a parameter called keyset*");
        renderOther.Should().NotThrow();
    }

    [Fact]
    public void Texts_of_ever_new_selects_do_not_fill_the_memory()
    {
        Keyset<Row> keyset = Keyset.For<Row>().Unique(row => row.Id, "id");
        int most = 0;
        for (int i = 0; i < 5 * KeysetTexts.Most; i++)
        {
            KeysetSql.Render(SqlDialect.Sqlite, keyset, $"SELECT id FROM rows WHERE e = {i}", Paginator.Open(keyset, new PageRequest()));
            most = Math.Max(most, keyset.Texts.Count);
        }

        most.Should().BeInRange(2, KeysetTexts.Most);
    }

    [Fact]
    public void Plans_of_ever_other_nulls_do_not_fill_the_memory()
    {
        KeysetPrefix<Row> prefix = Keyset.For<Row>();
        for (int i = 0; i < 12; i++)
        {
            int bit = i;
            prefix = prefix.Ascending(row => (row.Id >> bit & 1) == 0 ? (int?)null : 1, NullOrder.First, $"c{i}");
        }

        Keyset<Row> keyset = prefix.Unique(row => row.Id, "id");
        int most = 0;
        for (int id = 0; id < 1 << 12; id++)
        {
            SeekPlan plan = After(keyset, new Row { Id = id }, 10).Plan(SqlDialect.Sqlite);
            most = Math.Max(most, keyset.PlanCount);
            plan.Page[0].Terms.Should().HaveCount(13);
        }

        most.Should().BeInRange(2, KeysetTexts.Most);
    }

    [Fact]
    public void A_request_of_another_keyset_is_refused()
    {
        Keyset<Row> other = Keyset.For<Row>().Unique(row => row.Id, "id");

        Action render = () => KeysetSql.Render(SqlDialect.Sqlite, other, "SELECT 1", Paginator.Open(Newest, new PageRequest()));

        render.Should().Throw<ArgumentException>().WithMessage("The request was opened for another keyset.*");
    }

    [Fact]
    public async Task A_command_serves_page_after_page()
    {
        await using SqliteConnection connection = await Rows.SqliteAsync(Many());
        await using SqliteCommand command = connection.CreateCommand();
        var texts = new HashSet<string>();
        var seen = new List<int>();
        string? cursor = null;
        do
        {
            Page<Row> page = await KeysetSql.Render(SqlDialect.Sqlite, Newest, Rows.Select, Paginator.Open(Newest, new PageRequest(cursor, 7))).ToPageAsync(command, Rows.Map);
            texts.Add(command.CommandText);
            seen.AddRange(page.Items.Select(row => row.Id));
            cursor = page.Next;
        }
        while (cursor is not null);

        seen.Should().Equal(Many().OrderByDescending(row => row.D).ThenByDescending(row => row.Id).Select(row => row.Id));
        texts.Should().HaveCount(2, "the first page has no position, and all others are one statement");
        command.Parameters.Count.Should().Be(2);
    }

    [Fact]
    public async Task A_prepared_command_of_PostgreSQL_serves_pages_with_and_without_nulls_and_their_totals()
    {
        Row[] rows = [.. Many().Select(row => row with { NI = row.Id % 3 == 0 ? null : row.Id % 5 })];
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.NI, NullOrder.First, "ni").Unique(row => row.Id, "id");
        await using NpgsqlConnection connection = await Rows.PostgreSqlAsync(postgres, rows);
        await using NpgsqlCommand command = connection.CreateCommand();
        command.Parameters.AddWithValue("least", 5);
        var seen = new List<int>();
        string? cursor = null;
        do
        {
            KeysetQuery<Row> query = KeysetSql.Render(SqlDialect.PostgreSql, keyset, Rows.Select + " WHERE id >= @least", Paginator.Open(keyset, new PageRequest(cursor, 7, Total: TotalKind.Exact)));
            query.Bind(command);
            await command.PrepareAsync();
            Page<Row> page = await query.ToPageAsync(command, Rows.Map);
            seen.AddRange(page.Items.Select(row => row.Id));
            page.Total.Should().Be(new PageTotal(56, IsCapped: false));
            cursor = page.Next;
        }
        while (cursor is not null);

        seen.Should().Equal(rows.Where(row => row.Id >= 5).OrderBy(row => row.NI ?? -1).ThenBy(row => row.Id).Select(row => row.Id));
    }

    [Theory]
    [InlineData("char(4)", "char(4)")]
    [InlineData("char(4)", "bpchar")]
    [InlineData("pg_temp.mood", "pg_temp.mood")]
    public async Task A_text_key_of_another_type_than_text_pages_by_that_types_order(string column, string type)
    {
        await using NpgsqlConnection connection = await postgres.ConnectAsync();
        await Rows.ExecuteAsync(connection, $"""
            CREATE TYPE pg_temp.mood AS ENUM ('b', 'a'); CREATE TEMPORARY TABLE texts (s {column} NOT NULL, id int PRIMARY KEY);
            INSERT INTO texts SELECT (CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END)::{column}, i FROM generate_series(1, 20) AS i
            """);
        Keyset<Row> keyset = Keyset.For<Row>().Ascending(row => row.S, "s", type: type).Unique(row => row.Id, "id");
        var seen = new List<int>();
        string? cursor = null;
        do
        {
            await using NpgsqlCommand command = connection.CreateCommand();
            Page<Row> page = await KeysetSql.Render(SqlDialect.PostgreSql, keyset, "SELECT id, s, s::text AS t FROM texts", Paginator.Open(keyset, new PageRequest(cursor, 3)))
                .ToPageAsync(command, reader => new Row { Id = reader.GetInt32(0), S = reader.GetString(2) });
            seen.AddRange(page.Items.Select(row => row.Id));
            cursor = page.Next;
        }
        while (cursor is not null);

        bool isMood = column != "char(4)";
        seen.Should().Equal(Enumerable.Range(1, 20).OrderBy(id => id % 2 == 0 == isMood).ThenBy(id => id));
    }

    [Fact]
    public async Task Infinite_times_are_at_the_ends()
    {
        await using NpgsqlConnection connection = await postgres.ConnectAsync();
        await Rows.ExecuteAsync(connection, "CREATE TEMPORARY TABLE times (id int PRIMARY KEY, d timestamptz NOT NULL); INSERT INTO times VALUES (1, 'infinity'), (2, 'infinity'), (3, '-infinity'), (4, '-infinity'), (5, '2024-01-01Z')");
        var seen = new List<int>();
        string? cursor = null;
        do
        {
            await using NpgsqlCommand command = connection.CreateCommand();
            Page<Row> page = await KeysetSql.Render(SqlDialect.PostgreSql, Newest, "SELECT id, d FROM times", Paginator.Open(Newest, new PageRequest(cursor, 1)))
                .ToPageAsync(command, reader => Schemas.Plain(reader.GetInt32(0), reader.GetDateTime(1), Status.New));
            seen.AddRange(page.Items.Select(row => row.Id));
            cursor = page.Next;
        }
        while (cursor is not null && seen.Count < 10);

        seen.Should().Equal(2, 1, 5, 4, 3);
    }

    [Fact]
    public async Task The_callers_own_parameters_filter_all_branches()
    {
        await using SqliteConnection connection = await Rows.SqliteAsync(Many());
        await using SqliteCommand command = connection.CreateCommand();
        command.Parameters.AddWithValue("status", 5);
        var seen = new List<int>();
        string? cursor = null;
        do
        {
            Page<Row> page = await KeysetSql.Render(SqlDialect.Sqlite, Newest, Rows.Select + " WHERE e = @status", Paginator.Open(Newest, new PageRequest(cursor, 7), "paid")).ToPageAsync(command, Rows.Map);
            seen.AddRange(page.Items.Select(row => row.Id));
            cursor = page.Next;
        }
        while (cursor is not null);

        seen.Should().Equal(Many().Where(row => row.E == Status.Paid).OrderByDescending(row => row.D).ThenByDescending(row => row.Id).Select(row => row.Id));
    }

    [Fact]
    public async Task Dapper_reads_the_same_pages()
    {
        await using SqliteConnection connection = await Rows.SqliteAsync(Many());
        var seen = new List<int>();
        string? cursor = null;
        int previous = 0;
        do
        {
            KeysetQuery<Named> query = KeysetSql.Render(SqlDialect.Sqlite, Named.Newest, "SELECT id, d FROM rows WHERE e = @status", Paginator.Open(Named.Newest, new PageRequest(cursor, 7)));
            var parameters = new DynamicParameters(new { status = 5 });
            foreach (KeysetParameter parameter in query.Parameters)
            {
                parameters.Add(parameter.Name, parameter.Value, parameter.DbType);
            }

            await using DbDataReader reader = await connection.ExecuteReaderAsync(query.Sql, parameters);
            Func<DbDataReader, Named> parse = reader.GetRowParser<Named>();
            Page<Named> page = await query.ToPageAsync(reader, parse);
            seen.AddRange(page.Items.Select(row => (int)row.Id));
            previous += page.Previous is null ? 0 : 1;
            cursor = page.Next;
        }
        while (cursor is not null);

        seen.Should().Equal(Many().Where(row => row.E == Status.Paid).OrderByDescending(row => row.D).ThenByDescending(row => row.Id).Select(row => row.Id));
        previous.Should().BePositive();
    }

    [Theory]
    [InlineData(TotalKind.None, 1000, null)]
    [InlineData(TotalKind.Exact, 10, "50")]
    [InlineData(TotalKind.Capped, 49, "49+")]
    [InlineData(TotalKind.Capped, 50, "50")]
    [InlineData(TotalKind.Capped, 1000, "50")]
    public async Task A_total_is_exact_or_says_that_there_are_more(TotalKind kind, int cap, string? expected)
    {
        CursorPaginator paginator = Paginators.New(o => o.TotalCap = cap);
        await using SqliteConnection connection = await Rows.SqliteAsync(Many());
        await using SqliteCommand command = connection.CreateCommand();
        command.Parameters.AddWithValue("least", 11);
        var request = new PageRequest(paginator.Seal(Newest, Many()[30], PageDirection.Forward), 5, Total: kind);

        Page<Row> page = await KeysetSql.Render(SqlDialect.Sqlite, Newest, Rows.Select + " WHERE id >= @least", paginator.Open(Newest, request)).ToPageAsync(command, Rows.Map);
        Page<Row> inMemory = Many().Where(row => row.Id >= 11).ToPage(paginator, Newest, request);

        page.Total?.ToString().Should().Be(expected);
        inMemory.Total.Should().Be(page.Total);
        page.Items.Should().HaveCount(5);
    }

    private static KeysetRequest<T> After<T>(Keyset<T> keyset, T row, int size) => Paginator.Open(keyset, new PageRequest(Paginator.Seal(keyset, row, PageDirection.Forward), size));

    private static Row[] Many() => [.. Enumerable.Range(0, 60).Select(i => Schemas.Plain(i + 1, new DateTime(2024, 1, 1, 0, 0, i * 7 % 13, DateTimeKind.Utc), i % 2 == 0 ? Status.Paid : Status.New))];

    /// <summary>As Dapper likes it.</summary>
    private sealed class Named
    {
        public static Keyset<Named> Newest { get; } = Keyset.For<Named>().Descending(row => row.D, "d").Unique(row => row.Id, "id");

        public long Id { get; set; }

        public string D { get; set; } = "";
    }
}
