#:sdk Microsoft.NET.Sdk.Web
#:project ../src/Backend.Toolkit.Pagination.AspNetCore/Backend.Toolkit.Pagination.AspNetCore.csproj
#:package Microsoft.AspNetCore.OpenApi

// Shows pages over HTTP: the envelope, Link headers, what is refused, the OpenAPI document, and a client that reads all of them by links and by cursors.
// Run it: dotnet run samples/pagination-asp-net-core.cs
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.Pagination;
using Backend.Toolkit.Pagination.AspNetCore;

WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
byte[] secret = RandomNumberGenerator.GetBytes(32);
builder.Services.AddCursorPagination(o => o.Keys.Add(new CursorKey(1, secret)));
builder.Services.AddHttpPagination();

builder.Services.AddOpenApi(o => o.AddHttpPagination());
builder.Services.ConfigureHttpJsonOptions(o => o.SerializerOptions.TypeInfoResolverChain.Insert(0, ShopJson.Default));

builder.Logging.ClearProviders();
builder.WebHost.UseUrls("http://127.0.0.1:0");

WebApplication app = builder.Build();
Order[] orders = [.. Enumerable.Range(1, 100).Select(id => new Order(id, id % 3 == 0 ? "paid" : "open"))];
app.MapGet("/orders", (PageQuery query, string? status, CursorPaginator paginator) =>
    orders.Where(order => status is null || order.Status == status)
        .ToPage(paginator, Order.Newest, query.Request, scope: $"status {status}")
        .ToResult());

app.MapGet("/counted", (PageQuery query, CursorPaginator paginator) =>
    orders.ToPage(paginator, Order.Newest, query.Request with { Total = TotalKind.Capped }).ToResult());
app.MapGet("/bare", (PageQuery query, CursorPaginator paginator) => orders.ToPage(paginator, Order.Newest, query.Request));
app.MapOpenApi();

// Asks once the application has started, and stops it.
using var client = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false });
Task asked = AskAsync();

app.Run();

await asked;

async Task AskAsync()
{
    var started = new TaskCompletionSource();
    app.Lifetime.ApplicationStarted.Register(started.SetResult);
    await started.Task;
    client.BaseAddress = new Uri(app.Urls.Single());
    try
    {
        await ShowAllAsync();
    }
    finally
    {
        await app.StopAsync();
    }
}

async Task ShowAllAsync()
{
    Console.WriteLine("1. A page, and the one behind it. The link keeps the filter.");
    JsonElement page = await ShowAsync("/orders?size=2&status=paid");
    await ShowAsync($"/orders?size=2&status=paid&cursor={page.GetProperty("next")}");
    await ShowAsync("/counted?size=1");

    Console.WriteLine("2. What is refused: another filter's cursor, no cursor at all, two, a bad size. A large size is only made smaller.");
    await ShowAsync($"/orders?status=open&cursor={page.GetProperty("next")}");
    await ShowAsync("/orders?cursor=abc");
    await ShowAsync("/orders?cursor=a&cursor=b");
    await ShowAsync("/orders?size=-1");
    await ShowAsync("/orders?size=many");
    Console.WriteLine($"   size=1099511627776: {(await client.GetFromJsonAsync("/orders?size=1099511627776", ShopJson.Default.PageOrder))!.Items.Count} orders");

    Console.WriteLine("3. A client reads all of them, by links and by cursors.");
    foreach (string first in (string[])["/orders?size=7&status=paid", "/bare?size=7"])
    {
        int count = 0;
        await foreach (Order order in new PageReader<Order>(client, ShopJson.Default.Order).ReadAsync(new Uri(first, UriKind.Relative)))
        {
            count++;
        }

        Console.WriteLine($"   {first}: {count} orders");
    }

    Console.WriteLine("4. The OpenAPI document knows the parameters and the answers.");
    using JsonDocument document = JsonDocument.Parse(await client.GetStringAsync("/openapi/v1.json"));
    JsonElement operation = document.RootElement.GetProperty("paths").GetProperty("/orders").GetProperty("get");
    Console.WriteLine($"   parameters: {string.Join(", ", operation.GetProperty("parameters").EnumerateArray().Select(parameter => parameter.GetProperty("name")))}");
    Console.WriteLine($"   answers: {string.Join(", ", operation.GetProperty("responses").EnumerateObject().Select(answer => answer.Name))}");
}

async Task<JsonElement> ShowAsync(string address)
{
    using HttpResponseMessage answer = await client.GetAsync(address);
    string body = await answer.Content.ReadAsStringAsync();
    Console.WriteLine($"   GET {address}\n      {(int)answer.StatusCode} {body}");
    if (answer.Headers.TryGetValues("Link", out IEnumerable<string>? links))
    {
        Console.WriteLine($"      Link: {string.Join(", ", links)}");
    }

    return JsonDocument.Parse(body).RootElement;
}

internal sealed record Order(int Id, string Status)
{
    public static Keyset<Order> Newest { get; } = Keyset.For<Order>().Unique(order => order.Id, direction: SortDirection.Descending);
}

[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(Page<Order>))]
internal sealed partial class ShopJson : JsonSerializerContext;
