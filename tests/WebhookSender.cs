using System.Data.Common;
using Backend.Toolkit.Webhooks.Delivery;

/// <summary>A sender in a process of its own, to be killed: it delivers, and commits orders with their events, or rolls both back, as fast as every 2 ms.</summary>
internal static class WebhookSender
{
    public static WebhookDeliveryOptions Options => new()
    {
        Name = "sender",
        AllowHttp = true,
        AllowedNetworks = { "127.0.0.1/32" },
        AttemptTimeout = TimeSpan.FromSeconds(2),
        Lease = TimeSpan.FromSeconds(7),
        Schedule = [TimeSpan.Zero, .. Enumerable.Repeat(TimeSpan.FromSeconds(1), 49)],
        FirstPause = TimeSpan.FromMilliseconds(20),
        MaxPause = TimeSpan.FromMilliseconds(300),
    };

    public static async Task<int> RunAsync(IWebhookDeliveryStore store, Func<DbConnection> connect)
    {
        await using var worker = new WebhookDeliveryWorker(Options, store);
        await worker.StartAsync();
        var outbox = new WebhookOutbox(store, worker);
        Console.WriteLine("ready");
        for (int i = 0; ; i++)
        {
            bool commits = i % 4 != 3;
            string id = $"{(commits ? "order" : "rolled")}_{Guid.NewGuid():N}";
            await using DbConnection connection = connect();
            await connection.OpenAsync();
            await using DbTransaction transaction = await connection.BeginTransactionAsync();
            await using DbCommand command = connection.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = $"INSERT INTO orders (id) VALUES ('{id}')";
            await command.ExecuteNonQueryAsync();
            await outbox.EnqueueAsync(new WebhookEvent("order.created", "{}"u8.ToArray(), "acme", id, i % 2 == 0 ? $"key-{i % 6}" : null), transaction);
            if (commits)
            {
                await transaction.CommitAsync();
            }
            else
            {
                await transaction.RollbackAsync();
            }

            await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System, CancellationToken.None);
        }
    }
}
