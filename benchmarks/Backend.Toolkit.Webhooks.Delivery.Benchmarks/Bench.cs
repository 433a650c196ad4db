using System.Buffers.Binary;
using System.Globalization;
using Backend.Toolkit.Webhooks.Delivery;
using Backend.Toolkit.Webhooks.Delivery.PostgreSql;
using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Microsoft.Data.Sqlite;
using Npgsql;

/// <summary>A store with a worker and twenty endpoints at a receiver in another process.</summary>
internal sealed class Bench : IAsyncDisposable
{
    public const int Endpoints = 20;
    public const int PayloadBytes = 2048;

    private static readonly HttpClient Http = new();

    private readonly string _file = Path.Combine(Path.GetTempPath(), $"backend-toolkit-bench-{Guid.NewGuid():N}.db");
    private PostgreSqlCluster? _cluster;
    private Child _receiver = null!;
    private WebhookDeliveryWorker _worker = null!;

    public IWebhookDeliveryStore Store { get; private set; } = null!;

    public WebhookEndpoints Admin { get; private set; } = null!;

    public WebhookOutbox Outbox { get; private set; } = null!;

    public static async Task<Bench> CreateAsync(string database)
    {
        var bench = new Bench();
        if (database == "SQLite")
        {
            bench.Store = new SqliteWebhookDeliveryStore(new() { Name = "bench", ConnectionString = $"Data Source={bench._file}" });
        }
        else
        {
            bench._cluster = await PostgreSqlCluster.StartAsync("fsync=on", "autovacuum=on") ?? throw new InvalidOperationException("PostgreSQL is not installed.");
            bench.Store = new PostgreSqlWebhookDeliveryStore(new() { Name = "bench", DataSource = NpgsqlDataSource.Create(bench._cluster.ConnectionString + ";Maximum Pool Size=20") });
        }

        var options = new WebhookDeliveryOptions { Name = "bench", AllowHttp = true, AllowedNetworks = { "127.0.0.1/32" } };
        bench._worker = new WebhookDeliveryWorker(options, bench.Store);
        bench.Admin = new WebhookEndpoints(options, bench.Store, worker: bench._worker);
        bench.Outbox = new WebhookOutbox(bench.Store, bench._worker);
        await bench.Store.PrepareAsync();
        bench._receiver = await Child.StartAsync("receiver");
        for (int i = 0; i < Endpoints; i++)
        {
            await bench.Admin.CreateAsync("acme", $"{bench._receiver.Line}/{i}", ["order.created"], ReceiverProcess.Secret);
        }

        return bench;
    }

    public Task StartAsync() => _worker.StartAsync();

    public async Task EnqueueAsync()
    {
        byte[] payload = new byte[PayloadBytes];
        BinaryPrimitives.WriteInt64LittleEndian(payload, TimeProvider.System.GetTimestamp());
        await Outbox.EnqueueAsync(new WebhookEvent("order.created", payload, "acme"));
    }

    /// <returns>Valid ones, invalid ones, seconds from the first to the last, median and 99th percentile of the delays in ms.</returns>
    public async Task<double[]> ReportAsync(int expected)
    {
        while (int.Parse(await Http.GetStringAsync($"{_receiver.Line}/count"), CultureInfo.InvariantCulture) < expected)
        {
            await Task.Delay(20);
        }

        return [.. (await Http.GetStringAsync($"{_receiver.Line}/")).Split(' ').Select(part => double.Parse(part, CultureInfo.InvariantCulture))];
    }

    public async ValueTask DisposeAsync()
    {
        await _worker.DisposeAsync();
        _receiver.Dispose();
        SqliteConnection.ClearAllPools();
        File.Delete(_file);
        if (_cluster is not null)
        {
            await _cluster.DisposeAsync();
        }
    }
}
