using System.Data.Common;
using Microsoft.Data.Sqlite;
using Npgsql;

[assembly: AssemblyFixture(typeof(PostgreSqlServer))]

namespace Backend.Toolkit.Pagination.Tests;

public enum Status
{
    Cancelled = -1,
    New = 0,
    Paid = 5,
    Shipped = 100,
}

/// <summary>A row with a column of each kind.</summary>
public sealed record Row
{
    public int Id { get; init; }

    public long LongId { get; init; }

    public Guid GuidId { get; init; }

    public int I { get; init; }

    public long L { get; init; }

    public string S { get; init; } = "";

    public Guid G { get; init; }

    public DateTime D { get; init; }

    public DateTimeOffset O { get; init; }

    public decimal M { get; init; }

    public double F { get; init; }

    public bool B { get; init; }

    public Status E { get; init; }

    public int? NI { get; init; }

    public string? NS { get; init; }

    public DateTime? ND { get; init; }

    public Guid? NG { get; init; }

    public double? NF { get; init; }

    public override string ToString() => $"{Id}: {I} {L} '{S}' {G} {D:o} {O:o} {M} {F} {B} {E} {NI} '{NS}' {ND:o} {NG} {NF}";
}

internal static class Paginators
{
    public static byte[] Secret(byte seed = 1) => [.. Enumerable.Range(0, 32).Select(i => (byte)(seed + (7 * i)))];

    public static CursorPaginatorOptions Options(Action<CursorPaginatorOptions>? configure = null)
    {
        var options = new CursorPaginatorOptions();
        options.Keys.Add(new CursorKey(1, Secret()));
        configure?.Invoke(options);
        return options;
    }

    public static CursorPaginator New(Action<CursorPaginatorOptions>? configure = null, TimeProvider? time = null) => new(Options(configure), time);
}

/// <summary>Tables of <see cref="Row"/>s.</summary>
internal static class Rows
{
    public const string Select = "SELECT id, long_id, guid_id, i, l, s, g, d, o, m, f, b, e, ni, ns, nd, ng, nf FROM rows";

    private const string Insert = "INSERT INTO rows VALUES (@id, @long_id, @guid_id, @i, @l, @s, @g, @d, @o, @m, @f, @b, @e, @ni, @ns, @nd, @ng, @nf)";

    public static async Task<SqliteConnection> SqliteAsync(IEnumerable<Row> rows)
    {
        var connection = new SqliteConnection("Data Source=:memory:");
        await connection.OpenAsync();
        await ExecuteAsync(connection, "CREATE TABLE rows (id INTEGER PRIMARY KEY, long_id INTEGER, guid_id TEXT, i INTEGER, l INTEGER, s TEXT, g TEXT, d TEXT, o TEXT, m TEXT, f REAL, b INTEGER, e INTEGER, ni INTEGER, ns TEXT, nd TEXT, ng TEXT, nf REAL)");
        await InsertAsync(connection, rows);
        return connection;
    }

    public static async Task<NpgsqlConnection> PostgreSqlAsync(PostgreSqlServer server, IEnumerable<Row> rows)
    {
        NpgsqlConnection connection = await server.ConnectAsync();
        await ExecuteAsync(connection, "DROP TABLE IF EXISTS pg_temp.rows; CREATE TEMPORARY TABLE rows (id int PRIMARY KEY, long_id bigint, guid_id uuid, i int, l bigint, s text, g uuid, d timestamptz, o timestamptz, m numeric, f double precision, b boolean, e int, ni int, ns text, nd timestamptz, ng uuid, nf double precision)");
        await InsertAsync(connection, rows);
        return connection;
    }

    public static async Task InsertAsync(DbConnection connection, IEnumerable<Row> rows)
    {
        await using DbTransaction transaction = await connection.BeginTransactionAsync();
        await using DbCommand command = connection.CreateCommand();
        command.Transaction = transaction;
        command.CommandText = Insert;
        bool isPostgres = connection is NpgsqlConnection;
        foreach (Row row in rows)
        {
            command.Parameters.Clear();
            (string, object?)[] values =
            [
                ("id", row.Id), ("long_id", row.LongId), ("guid_id", row.GuidId), ("i", row.I), ("l", row.L), ("s", row.S), ("g", row.G), ("d", row.D), ("o", row.O.ToUniversalTime()), ("m", row.M),
                ("f", row.F), ("b", row.B), ("e", (int)row.E), ("ni", row.NI), ("ns", row.NS), ("nd", row.ND), ("ng", row.NG), ("nf", row.NF),
            ];
            foreach ((string name, object? value) in values)
            {
                DbParameter parameter = command.CreateParameter();
                parameter.ParameterName = name;
                parameter.Value = value ?? DBNull.Value;
                if (isPostgres && value is null)
                {
                    ((NpgsqlParameter)parameter).NpgsqlDbType = name switch
                    {
                        "ni" => NpgsqlTypes.NpgsqlDbType.Integer,
                        "ns" => NpgsqlTypes.NpgsqlDbType.Text,
                        "nd" => NpgsqlTypes.NpgsqlDbType.TimestampTz,
                        "ng" => NpgsqlTypes.NpgsqlDbType.Uuid,
                        _ => NpgsqlTypes.NpgsqlDbType.Double,
                    };
                }

                command.Parameters.Add(parameter);
            }

            await command.ExecuteNonQueryAsync();
        }

        await transaction.CommitAsync();
    }

    public static async Task ExecuteAsync(DbConnection connection, string sql)
    {
        await using DbCommand command = connection.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }

    public static Row Map(DbDataReader reader) => new()
    {
        Id = reader.GetInt32(0),
        LongId = reader.GetInt64(1),
        GuidId = reader.GetGuid(2),
        I = reader.GetInt32(3),
        L = reader.GetInt64(4),
        S = reader.GetString(5),
        G = reader.GetGuid(6),
        D = reader.GetDateTime(7),
        O = reader.GetFieldValue<DateTimeOffset>(8),
        M = reader.GetDecimal(9),
        F = reader.GetDouble(10),
        B = reader.GetBoolean(11),
        E = (Status)reader.GetInt32(12),
        NI = reader.IsDBNull(13) ? null : reader.GetInt32(13),
        NS = reader.IsDBNull(14) ? null : reader.GetString(14),
        ND = reader.IsDBNull(15) ? null : reader.GetDateTime(15),
        NG = reader.IsDBNull(16) ? null : reader.GetGuid(16),
        NF = reader.IsDBNull(17) ? null : reader.GetDouble(17),
    };

    /// <summary>A source of pages that asks a database.</summary>
    public static Func<PageRequest, Task<Page<Row>>> Source(DbConnection connection, CursorPaginator paginator, Keyset<Row> keyset) => async request =>
    {
        SqlDialect dialect = connection is NpgsqlConnection ? SqlDialect.PostgreSql : SqlDialect.Sqlite;
        KeysetQuery<Row> query = KeysetSql.Render(dialect, keyset, Select, paginator.Open(keyset, request));
        await using DbCommand command = connection.CreateCommand();
        return await query.ToPageAsync(command, Map);
    };
}
