namespace Shop;

/// <summary>A shop for one incident: on free ports, with a folder of its own that goes with it.</summary>
internal sealed class TourShop : IAsyncDisposable
{
    private static readonly TimeSpan MostForStop = TimeSpan.FromSeconds(5);

    private readonly WebApplication _app;
    private readonly HttpClient _payments;

    private TourShop(WebApplication app)
    {
        _app = app;
        Users = Loopback.NewClient(app.Urls.First());
        _payments = Loopback.NewClient(app.Services.GetRequiredService<PaymentsService>().Address);
    }

    public HttpClient Users { get; }

    public Uri Address => Users.BaseAddress!;

    /// <param name="toolkit">False: <c>--plain true</c>.</param>
    /// <param name="settings">Further arguments.</param>
    /// <param name="stopping">Ends the start.</param>
    public static async Task<TourShop> StartAsync(bool toolkit, IEnumerable<string> settings, CancellationToken stopping)
    {
        WebApplication app = ShopApplication.Build(
            ["--urls=http://127.0.0.1:0", $"--plain={!toolkit}", "--Logging:LogLevel:Default=None", "--Logging:LogLevel:Backend.Toolkit=None", "--Logging:LogLevel:Backend.Toolkit.Pagination=None", .. settings]);
        try
        {
            await app.StartAsync(stopping);
            return new TourShop(app);
        }
        catch
        {
            await app.DisposeAsync();
            throw;
        }
    }

    /// <summary>An order of its own.</summary>
    public async Task<HttpResponseMessage> OrderAsync(CancellationToken stopping)
    {
        using var order = new HttpRequestMessage(HttpMethod.Post, "orders") { Content = JsonContent.Create(new NewOrder("teapot", 1250)) };
        order.Headers.Add("Idempotency-Key", $"\"{Guid.NewGuid()}\"");
        return await Users.SendAsync(order, stopping);
    }

    public async Task TellPaymentsAsync(Fault fault, CancellationToken stopping)
    {
        using HttpResponseMessage told = await _payments.PostAsJsonAsync("faults", new { mode = fault.Mode.ToString(), fault.Ratio, fault.DelayMs }, stopping);
        told.EnsureSuccessStatusCode();
    }

    public async Task<ChargeCount> ChargesAsync(CancellationToken stopping) => (await _payments.GetFromJsonAsync<ChargeCount>("charges", stopping))!;

    public async ValueTask DisposeAsync()
    {
        // Whoever still waits for an answer goes first.
        Users.Dispose();
        using var limit = new CancellationTokenSource(MostForStop);
        try
        {
            await _app.StopAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            // What does not end in time is cut off.
        }

        await _app.DisposeAsync();
        _payments.Dispose();
    }
}
