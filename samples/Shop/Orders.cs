using Microsoft.Data.Sqlite;

namespace Shop;

/// <summary>What a customer sends.</summary>
internal sealed record NewOrder(string? Item, int Cents)
{
    public Dictionary<string, string[]> Problems()
    {
        var problems = new Dictionary<string, string[]>();
        if (string.IsNullOrWhiteSpace(Item) || Item.Length > 100)
        {
            problems["item"] = ["item must be a text of 1 to 100 characters."];
        }

        if (Cents is < 1 or > 1_000_000)
        {
            problems["cents"] = [$"cents must be between 1 and 1000000, but is {Cents}."];
        }

        return problems;
    }
}

internal enum OrderStatus
{
    /// <summary>Nobody knows yet whether it was charged.</summary>
    Pending,
    Paid,
    Declined,
}

internal sealed record Order(Guid Id, string Item, int Cents, OrderStatus Status, DateTimeOffset PlacedAt);

/// <summary>Orders in SQLite: in memory, or in the file orders.db of a folder. One connection, used by one request at a time; a statement takes microseconds.</summary>
internal sealed class OrderStore : IDisposable
{
    private readonly Lock _gate = new();
    private readonly SqliteConnection _connection;

    public OrderStore(string? folder)
    {
        string file = folder is null ? ":memory:" : Path.Combine(Directory.CreateDirectory(folder).FullName, "orders.db");
        _connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = file, Pooling = false }.ToString());
        _connection.Open();
        Execute("PRAGMA journal_mode = WAL");
        Execute("CREATE TABLE IF NOT EXISTS orders (id TEXT NOT NULL PRIMARY KEY, item TEXT NOT NULL, cents INTEGER NOT NULL, status INTEGER NOT NULL, placed_at TEXT NOT NULL)");
    }

    public void Add(Order order) => Execute(
        "INSERT INTO orders (id, item, cents, status, placed_at) VALUES ($id, $item, $cents, $status, $placedAt)",
        ("$id", order.Id), ("$item", order.Item), ("$cents", order.Cents), ("$status", (int)order.Status), ("$placedAt", order.PlacedAt));

    public void Settle(Order order) => Execute("UPDATE orders SET status = $status WHERE id = $id", ("$id", order.Id), ("$status", (int)order.Status));

    public Order? Find(Guid id) => Execute("SELECT id, item, cents, status, placed_at FROM orders WHERE id = $id", ("$id", id)).SingleOrDefault();

    public List<Order> Newest(int count) => Execute("SELECT id, item, cents, status, placed_at FROM orders ORDER BY rowid DESC LIMIT $count", ("$count", count));

    public void Dispose() => _connection.Dispose();

    private List<Order> Execute(string sql, params (string Name, object Value)[] parameters)
    {
        lock (_gate)
        {
            using SqliteCommand command = _connection.CreateCommand();
            command.CommandText = sql;
            foreach ((string name, object value) in parameters)
            {
                command.Parameters.AddWithValue(name, value);
            }

            using SqliteDataReader reader = command.ExecuteReader();
            List<Order> orders = [];
            while (reader.FieldCount == 5 && reader.Read())
            {
                orders.Add(new Order(reader.GetGuid(0), reader.GetString(1), reader.GetInt32(2), (OrderStatus)reader.GetInt32(3), reader.GetDateTimeOffset(4)));
            }

            return orders;
        }
    }
}
