using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;
using Backend.Toolkit.Pagination;

namespace Shop;

/// <summary>Reads all orders of a shop that runs, page by page.</summary>
internal static class Export
{
    /// <summary>As the shop answers.</summary>
    public static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false) },
        TypeInfoResolver = new DefaultJsonTypeInfoResolver(),
    };

    /// <summary>Writes a line of JSON for each order.</summary>
    public static async Task RunAsync(Uri shop, TextWriter output)
    {
        // Redirects are the reader's to judge: it never leaves the shop's own origin.
        using HttpClient client = new(new SocketsHttpHandler { AllowAutoRedirect = false }) { BaseAddress = shop };
        PageReader<Order> orders = new(client, (JsonTypeInfo<Order>)Json.GetTypeInfo(typeof(Order)));
        await foreach (Order order in orders.ReadAsync(new Uri("orders?size=100", UriKind.Relative)))
        {
            await output.WriteLineAsync(JsonSerializer.Serialize(order, Json));
        }
    }
}
