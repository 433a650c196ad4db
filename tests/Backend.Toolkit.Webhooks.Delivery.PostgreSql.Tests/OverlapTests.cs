using Npgsql;

namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql.Tests;

/// <summary>What meets a transaction of somebody else that has not committed.</summary>
public sealed class OverlapTests(PostgreSqlServer server)
{
    [Fact]
    public async Task A_head_that_is_redriven_while_the_next_of_its_key_is_being_claimed_waits_for_it()
    {
        await using PostgreSqlSchema schema = await PostgreSqlSchema.CreateAsync(server);
        var store = new PostgreSqlWebhookDeliveryStore(new() { Name = "store", DataSource = schema.Source });
        await store.PrepareAsync();
        await store.InsertEndpointAsync(new(new WebhookEndpoint("ep_1", "acme", "https://example.com/", [], true, null, 0, null, null, default), "secrets", 0));
        await store.EnqueueAsync(new("a1", "t", "acme", "a", null, null, default), null);
        await store.EnqueueAsync(new("a2", "t", "acme", "a", null, null, default), null);
        await store.FanOutAsync(10);
        WebhookClaim head = (await ClaimAsync(store)).Single();
        await store.RecordAsync([new(head, WebhookDeliveryState.Dead, TimeSpan.Zero, "enough", null, new(null, TimeSpan.Zero))]);

        // A trigger holds up who takes the second, before the commit.
        await using NpgsqlConnection holding = await schema.Source.OpenConnectionAsync();
        await ExecuteAsync(holding, """
            CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
            CREATE TRIGGER slowly BEFORE UPDATE ON webhook_deliveries FOR EACH ROW WHEN (NEW.fence = 1 AND OLD.fence = 0) EXECUTE FUNCTION slowly();
            SELECT pg_advisory_lock(42)
            """);

        Task<IReadOnlyList<WebhookClaim>> second = ClaimAsync(store).AsTask();
        await UntilAsync(holding, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted");
        Task<long> redriving = store.RequeueAsync(new(State: WebhookDeliveryState.Dead), TimeSpan.Zero).AsTask();
        await Task.WhenAny(redriving, Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, CancellationToken.None));
        Task<IReadOnlyList<WebhookClaim>> first = ClaimAsync(store).AsTask();
        await Task.WhenAny(first, Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, CancellationToken.None));
        await ExecuteAsync(holding, "SELECT pg_advisory_unlock(42)");

        (await redriving).Should().Be(1);
        (await second).Should().ContainSingle().Which.Event.Id.Should().Be("a2");
        (await first).Should().BeEmpty("the second is under way");
    }

    [Fact]
    public async Task An_event_whose_transaction_commits_later_than_a_younger_one_is_not_skipped()
    {
        await using PostgreSqlSchema schema = await PostgreSqlSchema.CreateAsync(server);
        var store = new PostgreSqlWebhookDeliveryStore(new() { Name = "store", DataSource = schema.Source });
        await store.PrepareAsync();
        await store.InsertEndpointAsync(new(new WebhookEndpoint("ep_1", "acme", "https://example.com/", [], true, null, 0, null, null, default), "secrets", 0));
        await using NpgsqlConnection slow = await schema.Source.OpenConnectionAsync();
        await using NpgsqlTransaction late = await slow.BeginTransactionAsync();
        await store.EnqueueAsync(new("early", "t", "acme", "a", null, null, default), late);
        await store.EnqueueAsync(new("later", "t", "acme", "a", null, null, default), null);

        int first = await store.FanOutAsync(10);
        await late.CommitAsync();
        int second = await store.FanOutAsync(10);

        first.Should().Be(1);
        second.Should().Be(1);
    }

    private static ValueTask<IReadOnlyList<WebhookClaim>> ClaimAsync(PostgreSqlWebhookDeliveryStore store) => store.ClaimAsync(new(TimeSpan.FromSeconds(60), "", static (_, _) => 5));

    private static async Task ExecuteAsync(NpgsqlConnection connection, string text)
    {
        await using var command = new NpgsqlCommand(text, connection);
        await command.ExecuteNonQueryAsync();
    }

    private static async Task UntilAsync(NpgsqlConnection connection, string count)
    {
        await using var command = new NpgsqlCommand(count, connection);
        while (await command.ExecuteScalarAsync() is not > 0L)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System, CancellationToken.None);
        }
    }
}
