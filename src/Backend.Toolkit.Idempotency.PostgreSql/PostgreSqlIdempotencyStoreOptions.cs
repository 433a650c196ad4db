using System.Globalization;
using Microsoft.Extensions.Options;
using Npgsql;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>Options of a <see cref="PostgreSqlIdempotencyStore"/>. What says where the records are is read when the store is made; the rest may change later.</summary>
public sealed class PostgreSqlIdempotencyStoreOptions
{
    private const int LongestTable = 50;
    private const int LongestSchema = 63;

    /// <summary>The label on metrics and in logs. Set by <c>AddPostgreSqlIdempotencyStore</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The application's data source, which stays the application's. Default null: <see cref="ConnectionString"/>, or else the <see cref="NpgsqlDataSource"/> that the container has.</summary>
    public NpgsqlDataSource? DataSource { get; set; }

    /// <summary>A database for which the store makes a data source of its own. Default null: <see cref="DataSource"/>.</summary>
    public string? ConnectionString { get; set; }

    /// <summary>Where the table is: 1 to 63 letters (a to z), digits and underscores, no digit first. Default <c>public</c>.</summary>
    public string Schema { get; set; } = "public";

    /// <summary>The table: 1 to 50 characters, as above. Applications may share one: keys are hashes over their scopes. Default <c>idempotency</c>.</summary>
    public string Table { get; set; } = "idempotency";

    /// <summary>Whether the store runs its script (<see cref="PostgreSqlIdempotencyStore.Script"/>) when the table is not there. Default true; false: you have run it.</summary>
    public bool CreateSchema { get; set; } = true;

    /// <summary>
    /// Whether who waits is told by <c>NOTIFY</c>, over one connection that listens from the first wait on. Default true; false, for poolers that share connections by transaction: who waits asks again, after 20 ms at first and
    /// 500 ms at last.
    /// </summary>
    public bool Listen { get; set; } = true;

    /// <summary>Whether statements are prepared once on each connection. Default true; false, for poolers that lose prepared statements: they are parsed and planned each time.</summary>
    public bool Prepare { get; set; } = true;

    /// <summary>
    /// How often expired records are deleted, give or take a quarter; several nodes share the work. 1 s to 1 day; default 1 min. <see cref="Timeout.InfiniteTimeSpan"/>: never, somebody calls
    /// <see cref="PostgreSqlIdempotencyStore.CleanUpAsync"/>.
    /// </summary>
    public TimeSpan CleanupInterval { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>How many records one statement deletes at most. 1 to 100 000; default 1 000.</summary>
    public int CleanupBatch { get; set; } = 1000;

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (DataSource is null == string.IsNullOrEmpty(ConnectionString))
        {
            // The value may hold a password.
            yield return Problem("DataSource or ConnectionString", "set, one of the two, or an NpgsqlDataSource be registered", DataSource is null ? "neither" : "both");
        }
        else if (ConnectionString is not null && !IsConnectionString(ConnectionString))
        {
            yield return Problem(nameof(ConnectionString), "one that Npgsql reads, such as 'Host=localhost;Database=shop'", "not");
        }

        if ((Listen || Prepare) && IsMultiplexing(ConnectionString ?? DataSource?.ConnectionString))
        {
            yield return Problem("Listen and Prepare", "false with Multiplexing=true, where no statement has a connection of its own", "not");
        }

        if (!IsIdentifier(Schema, LongestSchema))
        {
            yield return Problem(nameof(Schema), "1 to 63 letters (a to z), digits and underscores, no digit first", $"'{Schema}'");
        }

        if (!IsIdentifier(Table, LongestTable))
        {
            yield return Problem(nameof(Table), "1 to 50 letters (a to z), digits and underscores, no digit first", $"'{Table}'");
        }

        if (CleanupInterval != Timeout.InfiniteTimeSpan && (CleanupInterval < TimeSpan.FromSeconds(1) || CleanupInterval > TimeSpan.FromDays(1)))
        {
            yield return Problem(nameof(CleanupInterval), "between 00:00:01 and 1.00:00:00, or infinite", CleanupInterval);
        }

        if (CleanupBatch is < 1 or > 100_000)
        {
            yield return Problem(nameof(CleanupBatch), "between 1 and 100000", CleanupBatch);
        }
    }

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name ?? "", typeof(PostgreSqlIdempotencyStoreOptions), problems);
        }
    }

    /// <summary>Lower case only: what is quoted here and written bare elsewhere is then the same.</summary>
    internal static bool IsIdentifier(string? name, int longest) => !string.IsNullOrEmpty(name) && name.Length <= longest && !char.IsAsciiDigit(name[0])
        && name.All(character => char.IsAsciiLetterLower(character) || char.IsAsciiDigit(character) || character == '_');

    internal static void ThrowIfNoIdentifiers(string schema, string table)
    {
        var options = new PostgreSqlIdempotencyStoreOptions { ConnectionString = "Host=localhost", Schema = schema, Table = table };
        if (options.Problems().FirstOrDefault() is { } problem)
        {
            throw new ArgumentException(problem);
        }
    }

    private static bool IsConnectionString(string text)
    {
        try
        {
            return new NpgsqlConnectionStringBuilder(text).Host is not null;
        }
        catch (Exception exception) when (exception is ArgumentException or FormatException or InvalidCastException or OverflowException or KeyNotFoundException)
        {
            return false;
        }
    }

    private static bool IsMultiplexing(string? text) => IsConnectionString(text ?? "") && new NpgsqlConnectionStringBuilder(text).Multiplexing;

    private string Problem(string property, string rule, object value) => string.Create(
        CultureInfo.InvariantCulture, $"{(string.IsNullOrEmpty(Name) ? nameof(PostgreSqlIdempotencyStoreOptions) : Name)}: {property} must be {rule}, but is {value}.");
}
