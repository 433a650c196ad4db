using System.Data.Common;
using System.Globalization;
using Microsoft.Data.Sqlite;
using Npgsql;

namespace Backend.Toolkit.Pagination.Benchmarks;

/// <summary>
/// Page 1 and a page nine tenths of the way down, by seek, by OFFSET and by <c>a &lt; x OR (a = x AND b &lt; y)</c>: the best of several reads of 20 rows and one more, prepared. The seek reads what is behind and seals both cursors, too; page 1 by
/// seek has no position, so the page after it stands beside the deep one.
/// </summary>
internal static class Depth
{
    public static async Task PrintAsync(int rows)
    {
        Console.WriteLine($"{rows} rows, page of 20 at {rows / 10 * 9}; µs, best");
        Console.WriteLine("| database, order | page 1 | page 2 | deep, forward | deep, backward | deep ÷ page 1 | deep ÷ page 2 | OFFSET | OR | OFFSET ÷ seek | OR ÷ seek |");
        Console.WriteLine("|---|---|---|---|---|---|---|---|---|---|---|");
        await using (var sqlite = new SqliteConnection("Data Source=:memory:"))
        {
            await sqlite.OpenAsync();
            await using SqliteCommand fill = sqlite.CreateCommand();
            fill.CommandText = Order.Sqlite;
            fill.Parameters.AddWithValue("rows", rows);
            await fill.ExecuteNonQueryAsync();
            await PrintAsync("SQLite, one direction", sqlite, SqlDialect.Sqlite, Order.Newest, "created DESC, id DESC", "created < @created OR (created = @created AND id < @id)", rows);
            await PrintAsync("SQLite, mixed", sqlite, SqlDialect.Sqlite, Order.Mixed, "created DESC, id", "created < @created OR (created = @created AND id > @id)", rows);
            await PrintAsync("SQLite, few values first", sqlite, SqlDialect.Sqlite, Order.ByStatus, "status, id DESC", "status > @status OR (status = @status AND id < @id)", rows);
        }

        await using PostgreSqlCluster? cluster = await PostgreSqlCluster.StartAsync();
        if (cluster is null)
        {
            Console.WriteLine("PostgreSQL is not installed.");
            return;
        }

        await using var postgres = new NpgsqlConnection(cluster.ConnectionString);
        await postgres.OpenAsync();
        string[] statements =
        [
            "CREATE UNLOGGED TABLE orders (id int PRIMARY KEY, created timestamptz NOT NULL, note text NOT NULL, status int NOT NULL)",
            $"INSERT INTO orders SELECT i, '2024-01-01T00:00:00Z'::timestamptz + (i::bigint * 7919 % 250000) * interval '1 minute', 'a note on order ' || i, i % 5 FROM generate_series(1, {rows.ToString(CultureInfo.InvariantCulture)}) AS i",
            "CREATE INDEX by_created ON orders (created, id)",
            "CREATE INDEX mixed ON orders (created DESC, id)",
            "CREATE INDEX by_status ON orders (status, id DESC)",
            "VACUUM ANALYZE orders",
        ];
        foreach (string statement in statements)
        {
            await using var command = new NpgsqlCommand(statement, postgres) { CommandTimeout = 300 };
            await command.ExecuteNonQueryAsync();
        }

        // With values at hand PostgreSQL plans a prepared page anew each time, as long as it expects a little from that.
        foreach (string mode in new[] { "auto", "force_generic_plan" })
        {
            await using (var command = new NpgsqlCommand($"SET plan_cache_mode = {mode}", postgres))
            {
                await command.ExecuteNonQueryAsync();
            }

            await PrintAsync($"PostgreSQL, row values, {mode}", postgres, SqlDialect.PostgreSql, Order.Newest, "created DESC, id DESC", "created < @created OR (created = @created AND id < @id)", rows);
            await PrintAsync($"PostgreSQL, branches (mixed), {mode}", postgres, SqlDialect.PostgreSql, Order.Mixed, "created DESC, id", "created < @created OR (created = @created AND id > @id)", rows);
            await PrintAsync($"PostgreSQL, few values first, {mode}", postgres, SqlDialect.PostgreSql, Order.ByStatus, "status, id DESC", "status > @status OR (status = @status AND id < @id)", rows);
        }
    }

    private static async Task PrintAsync(string name, DbConnection connection, SqlDialect dialect, Keyset<Order> keyset, string order, string after, int rows)
    {
        string offset = (rows / 10 * 9).ToString(CultureInfo.InvariantCulture);
        Order deep = (await ReadAsync(connection, $"{Order.Select} ORDER BY {order} LIMIT 1 OFFSET {offset}", [])).Single();
        Order first = (await ReadAsync(connection, $"{Order.Select} ORDER BY {order} LIMIT 1", [])).Single();

        double pageOne = await SeekAsync(null, PageDirection.Forward);
        double pageTwo = await SeekAsync(first, PageDirection.Forward);
        double forward = await SeekAsync(deep, PageDirection.Forward);
        double backward = await SeekAsync(deep, PageDirection.Backward);
        double byOffset = await PlainAsync($"{Order.Select} ORDER BY {order} LIMIT 21 OFFSET {offset}", []);
        double byOr = await PlainAsync($"{Order.Select} WHERE {after} ORDER BY {order} LIMIT 21", [("created", deep.Created), ("status", deep.Status), ("id", deep.Id)]);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"| {name} | {pageOne:0} | {pageTwo:0} | {forward:0} | {backward:0} | {forward / pageOne:0.00} | {forward / pageTwo:0.00} | {byOffset:0} | {byOr:0} | {byOffset / forward:0} | {byOr / forward:0} |"));

        async Task<double> SeekAsync(Order? row, PageDirection direction)
        {
            var request = new PageRequest(row is null ? null : Order.Paginator.Seal(keyset, row, direction), 20);
            await using DbCommand command = connection.CreateCommand();
            KeysetSql.Render(dialect, keyset, Order.Select, Order.Paginator.Open(keyset, request)).Bind(command);
            await command.PrepareAsync();
            return await BestAsync(1000, async () => await KeysetSql.Render(dialect, keyset, Order.Select, Order.Paginator.Open(keyset, request)).ToPageAsync(command, Map));
        }

        async Task<double> PlainAsync(string sql, (string, object)[] parameters)
        {
            await using DbCommand command = Command(connection, sql, parameters);
            await command.PrepareAsync();
            return await BestAsync(4, () => ReadAsync(command));
        }
    }

    private static async Task<double> BestAsync(int times, Func<Task> read)
    {
        double best = double.MaxValue;
        for (int i = 0; i < times; i++)
        {
            long start = TimeProvider.System.GetTimestamp();
            await read();
            best = Math.Min(best, TimeProvider.System.GetElapsedTime(start).TotalMicroseconds);
        }

        return best;
    }

    private static DbCommand Command(DbConnection connection, string sql, (string Name, object Value)[] parameters)
    {
        DbCommand command = connection.CreateCommand();
        command.CommandText = sql;
        command.CommandTimeout = 300;
        foreach ((string name, object value) in parameters)
        {
            DbParameter parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.Value) = (name, value);
            command.Parameters.Add(parameter);
        }

        return command;
    }

    private static async Task<List<Order>> ReadAsync(DbConnection connection, string sql, (string, object)[] parameters)
    {
        await using DbCommand command = Command(connection, sql, parameters);
        return await ReadAsync(command);
    }

    private static async Task<List<Order>> ReadAsync(DbCommand command)
    {
        var rows = new List<Order>();
        await using DbDataReader reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
        {
            rows.Add(Map(reader));
        }

        return rows;
    }

    private static Order Map(DbDataReader reader) => new(reader.GetInt32(0), reader.GetDateTime(1), reader.GetString(2), reader.GetInt32(3));
}
