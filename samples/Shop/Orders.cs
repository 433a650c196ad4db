using System.ComponentModel.DataAnnotations;
using System.Data.Common;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.Pagination;
using Backend.Toolkit.Webhooks.Delivery;

namespace Shop;

/// <summary>What a customer sends.</summary>
internal sealed record NewOrder(
    [property: Required, StringLength(NewOrder.MaxLength, MinimumLength = 1)] string Item,
    [property: Range(1, NewOrder.MaxCents)] int Cents)
{
    public const int MaxLength = 100;
    public const int MaxCents = 1_000_000;

    public Dictionary<string, string[]> Problems()
    {
        var problems = new Dictionary<string, string[]>();
        if (string.IsNullOrWhiteSpace(Item) || Item.Length > MaxLength || Item.Any(char.IsControl))
        {
            problems["item"] = [$"item must be a text of 1 to {MaxLength} characters, none of them a control character."];
        }

        if (Cents is < 1 or > MaxCents)
        {
            problems["cents"] = [string.Create(CultureInfo.InvariantCulture, $"cents must be between 1 and {MaxCents}, but is {Cents}.")];
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

/// <summary>How the phases of an order are kept.</summary>
[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(Order))]
[JsonSerializable(typeof(bool))]
internal sealed partial class ShopJson : JsonSerializerContext;

/// <summary>Orders, in the database that their events and the outcomes of requests are in, too.</summary>
internal sealed class OrderStore(ShopDatabase database, CursorPaginator paginator)
{
    private const string Columns = "SELECT id, item, cents, status, placed_at FROM orders";

    /// <summary>An order that is about to be charged.</summary>
    public static async Task<Order> AddAsync(Order order, DbTransaction transaction, CancellationToken cancellationToken)
    {
        await ExecuteAsync(
            transaction,
            "INSERT INTO orders (id, item, cents, status, placed_at) VALUES (@id, @item, @cents, @status, @at)",
            [("@id", order.Id), ("@item", order.Item), ("@cents", order.Cents), ("@status", (int)order.Status), ("@at", order.PlacedAt.UtcDateTime)],
            cancellationToken);
        return order;
    }

    /// <summary>What became of a pending order, and the event that tells others; one does not come without the other. An order that is settled stays as it is.</summary>
    public static async Task<Order> SettleAsync(Order order, bool isPaid, WebhookOutbox outbox, DbTransaction transaction, CancellationToken cancellationToken)
    {
        order = order with { Status = isPaid ? OrderStatus.Paid : OrderStatus.Declined };
        int settled = await ExecuteAsync(
            transaction,
            "UPDATE orders SET status = @status WHERE id = @id AND status = @pending",
            [("@id", order.Id), ("@status", (int)order.Status), ("@pending", (int)OrderStatus.Pending)],
            cancellationToken);
        if (settled == 1)
        {
            byte[] payload = JsonSerializer.SerializeToUtf8Bytes(order, Export.Json);
            await outbox.EnqueueAsync(new WebhookEvent(isPaid ? "order.created" : "order.declined", payload, Subscriptions.Audience, OrderKey: $"{order.Id}"), transaction, cancellationToken);
        }

        return order;
    }

    public async Task<Order?> FindAsync(Guid id, CancellationToken cancellationToken)
    {
        await using DbCommand command = database.Source.CreateCommand($"{Columns} WHERE id = @id");
        Add(command, "@id", id);
        await using DbDataReader reader = await command.ExecuteReaderAsync(cancellationToken);
        return await reader.ReadAsync(cancellationToken) ? Read(reader) : null;
    }

    /// <summary>A page of the orders, newest first: all, or those of a status. A seek, however deep.</summary>
    public async Task<Page<Order>> PageAsync(PageRequest request, OrderStatus? status, CancellationToken cancellationToken)
    {
        string sql = status is null ? Columns : $"{Columns} WHERE status = @status";
        KeysetQuery<Order> query = KeysetSql.Render(database.Dialect, Order.Newest, sql, paginator.Open(Order.Newest, request, scope: $"status {status}"));
        await using DbConnection connection = await database.Source.OpenConnectionAsync(cancellationToken);
        await using DbCommand command = connection.CreateCommand();
        if (status is not null)
        {
            Add(command, "@status", (int)status);
        }

        return await query.ToPageAsync(command, Read, cancellationToken);
    }

    private static Order Read(DbDataReader reader) => new(
        reader.GetGuid(0), reader.GetString(1), reader.GetInt32(2), (OrderStatus)reader.GetInt32(3), new DateTimeOffset(reader.GetDateTime(4), TimeSpan.Zero));

    private static async Task<int> ExecuteAsync(DbTransaction transaction, string sql, (string Name, object Value)[] parameters, CancellationToken cancellationToken)
    {
        await using DbCommand command = transaction.Connection!.CreateCommand();
        command.Transaction = transaction;
        command.CommandText = sql;
        foreach ((string name, object value) in parameters)
        {
            Add(command, name, value);
        }

        return await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private static void Add(DbCommand command, string name, object value)
    {
        DbParameter parameter = command.CreateParameter();
        (parameter.ParameterName, parameter.Value) = (name, value);
        command.Parameters.Add(parameter);
    }
}
