using System.Globalization;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>Options of a <see cref="SqliteIdempotencyStore"/>. What says where and how the records are is read when the store is made; the rest may change later.</summary>
public sealed class SqliteIdempotencyStoreOptions
{
    private const int LongestTable = 50;

    /// <summary>The label in logs. Set by <c>AddSqliteIdempotencyStore</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The database, a file, such as <c>Data Source=shop.db</c>; for transaction mode that which the application writes to. The store opens two connections of its own. Required.</summary>
    public string? ConnectionString { get; set; }

    /// <summary>The table: 1 to 50 letters (a to z), digits and underscores, no digit first; two more tables are named after it. Applications may share one: keys are hashes over their scopes. Default <c>idempotency</c>.</summary>
    public string Table { get; set; } = "idempotency";

    /// <summary>Whether the store runs its script (<see cref="SqliteIdempotencyStore.Script"/>) when it opens the file. Default true; false: you have run it.</summary>
    public bool CreateSchema { get; set; } = true;

    /// <summary>
    /// Whether each commit of the store is on the disk before it returns (<c>PRAGMA synchronous=FULL</c>). Default true; false (<c>NORMAL</c>): the last ones may be lost when the power fails or the machine crashes, not
    /// when a process is killed. In transaction mode your own connection's setting counts.
    /// </summary>
    public bool SurvivePowerLoss { get; set; } = true;

    /// <summary>How long a write of the store waits for other writers of the file. 1 ms to 1 minute; default 5 s.</summary>
    public TimeSpan BusyTimeout { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// How often expired records are deleted, give or take a quarter. 1 s to 1 day; default 1 min. <see cref="Timeout.InfiniteTimeSpan"/>: never, somebody calls <see cref="SqliteIdempotencyStore.CleanUpAsync"/>.
    /// </summary>
    public TimeSpan CleanupInterval { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>How many records one transaction deletes at most. 1 to 100 000; default 500.</summary>
    public int CleanupBatch { get; set; } = 500;

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (FileProblem() is { } problem)
        {
            // The value may hold a password.
            yield return Problem(nameof(ConnectionString), problem.Rule, problem.Value);
        }

        if (!IsIdentifier(Table))
        {
            yield return Problem(nameof(Table), "1 to 50 letters (a to z), digits and underscores, no digit first", $"'{Table}'");
        }

        if (BusyTimeout < TimeSpan.FromMilliseconds(1) || BusyTimeout > TimeSpan.FromMinutes(1))
        {
            yield return Problem(nameof(BusyTimeout), $"between {TimeSpan.FromMilliseconds(1)} and {TimeSpan.FromMinutes(1)}", BusyTimeout);
        }

        if (CleanupInterval != Timeout.InfiniteTimeSpan && (CleanupInterval < TimeSpan.FromSeconds(1) || CleanupInterval > TimeSpan.FromDays(1)))
        {
            yield return Problem(nameof(CleanupInterval), $"between {TimeSpan.FromSeconds(1)} and {TimeSpan.FromDays(1)}, or infinite", CleanupInterval);
        }

        if (CleanupBatch is < 1 or > 100_000)
        {
            yield return Problem(nameof(CleanupBatch), "between 1 and 100000", CleanupBatch);
        }
    }

    internal static bool IsIdentifier(string? name) => !string.IsNullOrEmpty(name) && name.Length <= LongestTable && !char.IsAsciiDigit(name[0])
        && name.All(character => char.IsAsciiLetterLower(character) || char.IsAsciiDigit(character) || character == '_');

    internal void ThrowIfInvalid()
    {
        List<string> problems = [.. Problems()];
        if (problems.Count > 0)
        {
            throw new OptionsValidationException(Name ?? "", GetType(), problems);
        }
    }

    private (string Rule, string Value)? FileProblem()
    {
        if (string.IsNullOrEmpty(ConnectionString))
        {
            return ("set, such as 'Data Source=shop.db'", "not");
        }

        try
        {
            var builder = new SqliteConnectionStringBuilder(ConnectionString);
            bool isMemory = builder.Mode == SqliteOpenMode.Memory || builder.DataSource is "" or ":memory:" || builder.DataSource.Contains("mode=memory", StringComparison.OrdinalIgnoreCase);
            return isMemory ? ("that of a file, as a database in memory has no second connection that sees it and no write-ahead log", "of one in memory")
                : builder.DataSource.Contains("cache=shared", StringComparison.OrdinalIgnoreCase) ? ("without cache=shared in the URI, where who reads is refused what another is writing", "with it")
                : null;
        }
        catch (ArgumentException)
        {
            return ("one that Microsoft.Data.Sqlite reads, such as 'Data Source=shop.db'", "not");
        }
    }

    private string Problem(string property, string rule, object? value) =>
        string.Create(CultureInfo.InvariantCulture, $"{(string.IsNullOrEmpty(Name) ? nameof(SqliteIdempotencyStoreOptions) : Name)}: {property} must be {rule}, but is {value}.");
}
