using System.Data.Common;
using Backend.Toolkit.Pagination;
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

/// <summary>A status in a query, as it stands in JSON.</summary>
internal readonly record struct StatusFilter(OrderStatus Status)
{
    public static bool TryParse(string? text, out StatusFilter filter)
    {
        // A name, and one: Enum takes numbers and lists, too.
        bool isStatus = Enum.TryParse(text, ignoreCase: true, out OrderStatus status) && text.All(char.IsAsciiLetter);
        filter = new StatusFilter(status);
        return isStatus;
    }
}

internal sealed record Order(Guid Id, string Item, int Cents, OrderStatus Status, DateTimeOffset PlacedAt)
{
    /// <summary>The order in which they are listed; both indexes of the table have its columns.</summary>
    public static Keyset<Order> Newest { get; } = Keyset.For<Order>()
        .Descending(order => order.PlacedAt.UtcDateTime, column: "placed_at")
        .Unique(order => order.Id, column: "id");
}

/// <summary>Orders in SQLite: in memory, or in the file orders.db of a folder. One connection, used by one request at a time; a statement takes microseconds.</summary>
internal sealed class OrderStore : IDisposable
{
    private const string Columns = "SELECT id, item, cents, status, placed_at FROM orders";

    private readonly SemaphoreSlim _gate = new(1);
    private readonly SqliteConnection _connection;
    private readonly CursorPaginator _paginator;

    public OrderStore(string? folder, CursorPaginator paginator)
    {
        _paginator = paginator;
        string file = folder is null ? ":memory:" : Path.Combine(Directory.CreateDirectory(folder).FullName, "orders.db");
        _connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = file, Pooling = false }.ToString());
        _connection.Open();
        Execute("PRAGMA journal_mode = WAL");
        Execute("CREATE TABLE IF NOT EXISTS orders (id TEXT NOT NULL PRIMARY KEY, item TEXT NOT NULL, cents INTEGER NOT NULL, status INTEGER NOT NULL, placed_at TEXT NOT NULL)");
        Execute("CREATE INDEX IF NOT EXISTS orders_by_age ON orders (placed_at, id)");
        Execute("CREATE INDEX IF NOT EXISTS orders_by_status ON orders (status, placed_at, id)");
    }

    public void Add(Order order) => Execute(
        "INSERT INTO orders (id, item, cents, status, placed_at) VALUES ($id, $item, $cents, $status, $placedAt)",
        ("$id", order.Id), ("$item", order.Item), ("$cents", order.Cents), ("$status", (int)order.Status), ("$placedAt", order.PlacedAt.UtcDateTime));

    public void Settle(Order order) => Execute("UPDATE orders SET status = $status WHERE id = $id", ("$id", order.Id), ("$status", (int)order.Status));

    public Order? Find(Guid id) => Execute($"{Columns} WHERE id = $id", ("$id", id)).SingleOrDefault();

    /// <summary>A page of the orders, newest first: all, or those of a status. A seek, however deep.</summary>
    public async Task<Page<Order>> PageAsync(PageRequest request, OrderStatus? status, CancellationToken cancellationToken)
    {
        string sql = status is null ? Columns : $"{Columns} WHERE status = $status";
        KeysetQuery<Order> query = KeysetSql.Render(SqlDialect.Sqlite, Order.Newest, sql, _paginator.Open(Order.Newest, request, scope: $"status {status}"));
        await _gate.WaitAsync(cancellationToken);
        try
        {
            using SqliteCommand command = _connection.CreateCommand();
            if (status is not null)
            {
                command.Parameters.AddWithValue("$status", (int)status);
            }

            return await query.ToPageAsync(command, Read, cancellationToken);
        }
        finally
        {
            _gate.Release();
        }
    }

    public void Dispose()
    {
        _connection.Dispose();
        _gate.Dispose();
    }

    private static Order Read(DbDataReader reader) => new(
        reader.GetGuid(0), reader.GetString(1), reader.GetInt32(2), (OrderStatus)reader.GetInt32(3), new DateTimeOffset(reader.GetDateTime(4), TimeSpan.Zero));

    private List<Order> Execute(string sql, params (string Name, object Value)[] parameters)
    {
        _gate.Wait();
        try
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
                orders.Add(Read(reader));
            }

            return orders;
        }
        finally
        {
            _gate.Release();
        }
    }
}
