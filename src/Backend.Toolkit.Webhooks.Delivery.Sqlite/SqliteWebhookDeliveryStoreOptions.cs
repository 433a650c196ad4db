using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite;

/// <summary>Which database, and who makes its tables.</summary>
public sealed class SqliteWebhookDeliveryStoreOptions : IValidOptions
{
    /// <summary>Begins the sentences about problems. Set by <c>AddSqliteWebhookDeliveryStore</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The connection string of the application's own database, a file. It has no default.</summary>
    public string ConnectionString { get; set; } = "";

    /// <summary>Whether the store makes its tables when it starts, and turns write-ahead logging on; without, run <see cref="SqliteWebhookDeliveryStore.Script"/>. Default true.</summary>
    public bool CreateSchema { get; set; } = true;

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (string.IsNullOrWhiteSpace(ConnectionString))
        {
            yield return this.Problem(nameof(ConnectionString), "a connection string such as Data Source=shop.db", "empty");
        }
        else if (!IsReadable())
        {
            // The value may hold a password.
            yield return this.Problem(nameof(ConnectionString), "one that Microsoft.Data.Sqlite reads, such as Data Source=shop.db", "not");
        }
        else if (ConnectionString.Contains(":memory:", StringComparison.OrdinalIgnoreCase))
        {
            // The worker and the application have a connection each.
            yield return this.Problem(nameof(ConnectionString), "that of a file", "one of a memory that each connection has for itself");
        }
    }

    private bool IsReadable()
    {
        try
        {
            _ = new SqliteConnectionStringBuilder(ConnectionString);
            return true;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }
}
