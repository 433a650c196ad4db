using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.Pagination;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

// Real servers and real time: shops that share two cores with each other would be slow for no reason of their own.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace Shop.Tests;

/// <summary>The shop and its payments service on free ports, driven over HTTP.</summary>
internal sealed class RunningShop : IAsyncDisposable
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) } };

    private readonly WebApplication _app;

    private RunningShop(WebApplication app)
    {
        _app = app;
        Client = new HttpClient { BaseAddress = new Uri(app.Urls.First()), Timeout = TimeSpan.FromSeconds(15) };
        Payments = new HttpClient { BaseAddress = app.Services.GetRequiredService<Neighbours>().Payments, Timeout = TimeSpan.FromSeconds(15) };
        Customer = new HttpClient { BaseAddress = app.Services.GetRequiredService<Neighbours>().Customer, Timeout = TimeSpan.FromSeconds(15) };
    }

    public IServiceProvider Services => _app.Services;

    public HttpClient Client { get; }

    public HttpClient Payments { get; }

    public HttpClient Customer { get; }

    /// <summary>Starts a shop.</summary>
    /// <param name="settings">Further settings, as on the command line: <c>--name=value</c>.</param>
    public static async Task<RunningShop> StartAsync(params string[] settings)
    {
        WebApplication app = ShopApplication.Build(["--urls=http://127.0.0.1:0", "--Logging:LogLevel:Default=None", "--Logging:LogLevel:Backend.Toolkit=None", .. settings]);
        await app.StartAsync();
        return new RunningShop(app);
    }

    /// <param name="item">What is ordered.</param>
    /// <param name="cents">What it costs.</param>
    /// <param name="key">Null: a new one.</param>
    /// <param name="cancellationToken">Hangs up.</param>
    public Task<HttpResponseMessage> OrderAsync(string item = "teapot", int cents = 1250, string? key = null, CancellationToken cancellationToken = default) =>
        PostOrderAsync(JsonContent.Create(new { item, cents }), key ?? Guid.NewGuid().ToString(), cancellationToken);

    public Task<HttpResponseMessage> PostOrderAsync(HttpContent content, string key, CancellationToken cancellationToken = default) => PostAsync(Client, new Uri("orders", UriKind.Relative), content, key, cancellationToken);

    public static Task<HttpResponseMessage> PostOrderAsync(HttpClient client, Uri address, string key) => PostAsync(client, address, JsonContent.Create(new { item = "teapot", cents = 1250 }), key, default);

    public async Task TellPaymentsAsync(string mode, double ratio = 1, int delayMs = 0) =>
        (await Payments.PostAsJsonAsync("faults", new { mode, ratio, delayMs })).EnsureSuccessStatusCode();

    public async Task<ChargeCount> ChargesAsync() => (await Payments.GetFromJsonAsync<ChargeCount>("charges"))!;

    public async Task<Received> ReceivedAsync() => (await Customer.GetFromJsonAsync<Received>("received"))!;

    public async Task<ShopState> StateAsync() => (await Client.GetFromJsonAsync<ShopState>("state", Json))!;

    /// <summary>The newest hundred.</summary>
    public async Task<Order[]> OrdersAsync() => [.. (await PageAsync("orders?size=100")).Items];

    public async Task<Page<Order>> PageAsync(string address) => (await Client.GetFromJsonAsync<Page<Order>>(address, Json))!;

    public static async Task<Order> ReadOrderAsync(HttpResponseMessage response) => (await response.Content.ReadFromJsonAsync<Order>(Json))!;

    private static async Task<HttpResponseMessage> PostAsync(HttpClient client, Uri address, HttpContent content, string key, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, address) { Content = content };
        request.Headers.TryAddWithoutValidation("Idempotency-Key", key);
        return await client.SendAsync(request, cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        Payments.Dispose();
        Customer.Dispose();
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}
