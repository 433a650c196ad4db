using Npgsql;

namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql;

/// <summary>Which database, and who makes its tables.</summary>
public sealed class PostgreSqlWebhookDeliveryStoreOptions : IValidOptions
{
    /// <summary>Begins the sentences about problems. Set by <c>AddPostgreSqlWebhookDeliveryStore</c>.</summary>
    public string Name { get; set; } = "";

    /// <summary>The application's own database. Default null: the <see cref="NpgsqlDataSource"/> that is registered.</summary>
    public NpgsqlDataSource? DataSource { get; set; }

    /// <summary>Whether the store makes its tables when it starts; without, run <see cref="PostgreSqlWebhookDeliveryStore.Script"/>. Default true.</summary>
    public bool CreateSchema { get; set; } = true;

    /// <summary>One sentence for each value that is out of range: the rule, the value. None when the options are valid.</summary>
    /// <returns>The sentences, each beginning with <see cref="Name"/>.</returns>
    public IEnumerable<string> Problems()
    {
        if (DataSource is null)
        {
            yield return this.Problem(nameof(DataSource), "set, or an NpgsqlDataSource registered", "null");
        }
    }
}
