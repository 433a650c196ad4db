using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>A store in SQLite under a clock of the test, with what stands around it; workers are stepped by hand.</summary>
internal sealed class Rig : IDisposable
{
    private readonly SqliteDatabase _database = new();

    private Rig(Action<WebhookDeliveryOptions>? configure)
    {
        Options = new WebhookDeliveryOptions { Name = "tests" };
        configure?.Invoke(Options);
        Store = new TroubledStore(Support.Store(_database, Time));
        Endpoints = new WebhookEndpoints(Options, Store, Time);
        Outbox = new WebhookOutbox(Store);
        Deliveries = new WebhookDeliveries(Store);
    }

    public FakeTimeProvider Time { get; } = new(Support.Start);

    public WebhookDeliveryOptions Options { get; }

    public TroubledStore Store { get; }

    public WebhookEndpoints Endpoints { get; }

    public WebhookOutbox Outbox { get; }

    public WebhookDeliveries Deliveries { get; }

    public string ConnectionString => _database.ConnectionString;

    public static async Task<Rig> CreateAsync(Action<WebhookDeliveryOptions>? configure = null)
    {
        var rig = new Rig(configure);
        await rig.Store.PrepareAsync();
        return rig;
    }

    public WebhookDeliveryWorker Worker(HttpMessageHandler receiver, Func<double>? random = null) => new(Options, Store, Time, null, receiver, random ?? (static () => 1));

    public async Task<string> AddEndpointAsync(string host = "receiver.example.com", string audience = "acme") => (await Endpoints.CreateAsync(audience, $"https://{host}/hooks")).Endpoint.Id;

    public ValueTask<string> EnqueueAsync(string id, string? key = null) => Outbox.EnqueueAsync(new WebhookEvent("order.created", "{}"u8.ToArray(), "acme", id, key));

    /// <summary>One step of a worker, with its attempts and their recording.</summary>
    public static async Task<bool> StepAsync(WebhookDeliveryWorker worker)
    {
        (bool busy, Task attempts) = await worker.StepAsync(CancellationToken.None);
        await attempts;
        await worker.RecordFinishedAsync();
        return busy;
    }

    public async Task<WebhookDelivery> DeliveryAsync(string id) => (await Deliveries.ListAsync(new(EventId: id))).Single();

    public async Task<IReadOnlyList<WebhookDelivery>> DeliveriesAsync() => await Deliveries.ListAsync(new());

    public void Dispose() => _database.Dispose();
}
