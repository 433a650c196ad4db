using Microsoft.Data.Sqlite;

namespace Shop.Soak.Tests;

/// <summary>What the shop, payments and the customer have written down, held against each other and against what clients were promised.</summary>
internal sealed class Books : IDisposable
{
    private static readonly (string Rule, string Offenders)[] Rules =
    [
        ("who was promised an order has it, and it is paid",
            "SELECT p.key FROM promises p LEFT JOIN orders o ON o.id = p.id AND o.item = p.key AND o.status = 1 WHERE o.id IS NULL"),
        ("no key has two orders",
            "SELECT item FROM orders GROUP BY item HAVING count(*) > 1"),
        ("what is paid was charged, once, and as much",
            "SELECT o.id FROM orders o LEFT JOIN (SELECT order_id, count(*) AS n, max(cents) AS cents FROM charges GROUP BY order_id) c ON c.order_id = o.id WHERE o.status = 1 AND (c.n IS NOT 1 OR c.cents <> o.cents)"),
        ("what was charged is paid",
            "SELECT c.order_id FROM charges c LEFT JOIN orders o ON o.id = c.order_id AND o.status = 1 WHERE o.id IS NULL"),
        ("what is settled was announced, once",
            "SELECT o.id FROM orders o LEFT JOIN (SELECT upper(order_key) AS id, count(*) AS n FROM webhook_events GROUP BY 1) e ON e.id = o.id WHERE o.status <> 0 AND e.n IS NOT 1"),
        ("what was announced is settled",
            "SELECT e.id FROM webhook_events e LEFT JOIN orders o ON o.id = upper(e.order_key) AND o.status <> 0 WHERE o.id IS NULL"),
        ("what was announced was delivered, or is a dead letter",
            "SELECT id FROM webhook_events e WHERE (SELECT count(*) FROM webhook_deliveries d WHERE d.event_seq = e.seq AND d.state <> 0) <> 1"),
        ("what was delivered was received",
            "SELECT e.id FROM webhook_deliveries d JOIN webhook_events e ON e.seq = d.event_seq WHERE d.state = 1 AND NOT EXISTS (SELECT 1 FROM received r WHERE r.id = e.id)"),
        ("what was received is the order that it tells of",
            "SELECT id FROM received r WHERE NOT EXISTS (SELECT 1 FROM webhook_events e WHERE e.id = r.id AND e.order_key = r.body ->> 'id')"),
        ("payments has told of its charges",
            "SELECT id FROM charge_events e WHERE (SELECT count(*) FROM charge_deliveries d WHERE d.event_seq = e.seq AND d.state = 1) <> 1"),
    ];

    private readonly SqliteConnection _connection;

    /// <param name="shop">The folder with orders.db.</param>
    /// <param name="payments">The folder with charges.db.</param>
    /// <param name="customer">The folder with customer.db.</param>
    /// <param name="promises">The file with the keys and ids of orders that clients were promised.</param>
    public Books(string shop, string payments, string customer, string promises)
    {
        _connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = Path.Combine(shop, "orders.db"), Pooling = false }.ToString());
        _connection.Open();
        Execute($"""
            ATTACH '{Path.Combine(payments, "charges.db")}' AS payments;
            ATTACH '{Path.Combine(customer, "customer.db")}' AS customer;
            CREATE TEMP VIEW charge_deliveries AS SELECT * FROM payments.webhook_deliveries;
            CREATE TEMP VIEW charge_events AS SELECT * FROM payments.webhook_events;
            CREATE TEMP TABLE promises (key TEXT NOT NULL PRIMARY KEY, id TEXT NOT NULL);
            PRAGMA busy_timeout = 10000;
            """);
        using SqliteTransaction transaction = _connection.BeginTransaction(deferred: true);
        using SqliteCommand insert = _connection.CreateCommand();
        insert.CommandText = "INSERT INTO promises (key, id) VALUES ($key, upper($id))";
        SqliteParameter key = insert.Parameters.Add("$key", SqliteType.Text), id = insert.Parameters.Add("$id", SqliteType.Text);
        using var reader = new StreamReader(new FileStream(promises, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        while (reader.ReadLine() is { } line)
        {
            string[] words = line.Split(' ');
            (key.Value, id.Value) = (words[0], words[1]);
            insert.ExecuteNonQuery();
        }

        transaction.Commit();
    }

    /// <summary>A sentence for each rule that does not hold, with the first offenders.</summary>
    public List<string> Offences() =>
    [
        .. Rules.Select(rule => (rule.Rule, Offenders: Query($"{rule.Offenders} LIMIT 5")))
            .Where(rule => rule.Offenders.Count > 0)
            .Select(rule => $"{rule.Rule}: not so {string.Join(", ", rule.Offenders)}"),
    ];

    public long Count(string ofWhat) => long.Parse(Query($"SELECT count(*) FROM {ofWhat}").Single(), null);

    public List<string> DeadLetters() => Query("SELECT id FROM webhook_deliveries WHERE state = 2");

    public void Dispose() => _connection.Dispose();

    private List<string> Query(string sql)
    {
        using SqliteCommand command = _connection.CreateCommand();
        command.CommandText = sql;
        using SqliteDataReader reader = command.ExecuteReader();
        List<string> values = [];
        while (reader.Read())
        {
            values.Add(reader.GetString(0));
        }

        return values;
    }

    private void Execute(string sql)
    {
        using SqliteCommand command = _connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }
}
