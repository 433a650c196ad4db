using System.Text.Json.Serialization;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

public sealed record Order(int Id, string Status)
{
    public static Keyset<Order> ById { get; } = Keyset.For<Order>().Unique(order => order.Id);

    public static Keyset<Order> ByStatus { get; } = Keyset.For<Order>().Ascending(order => order.Status).Unique(order => order.Id);

    public static IReadOnlyList<Order> All { get; } = [.. Enumerable.Range(1, 10).Select(id => new Order(id, id % 2 == 0 ? "paid" : "new"))];

    public static Page<Order> Page(PageQuery query, CursorPaginator paginator, string? scope = null) => All.ToPage(paginator, ById, query.Request, scope);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(Order))]
[JsonSerializable(typeof(Page<Order>))]
internal sealed partial class OrderJson : JsonSerializerContext;
