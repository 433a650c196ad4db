using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Npgsql;

namespace Backend.Toolkit.Webhooks.Delivery.PostgreSql.Tests;

public sealed class SchemaTests(PostgreSqlServer server) : IAsyncLifetime
{
    private PostgreSqlSchema _schema = null!;

    public async ValueTask InitializeAsync() => _schema = await PostgreSqlSchema.CreateAsync(server);

    public ValueTask DisposeAsync() => _schema.DisposeAsync();

    [Fact]
    public async Task Tables_are_the_applications_to_make_when_it_says_so_and_the_script_makes_them()
    {
        var store = new PostgreSqlWebhookDeliveryStore(new() { Name = "store", DataSource = _schema.Source, CreateSchema = false });
        await store.PrepareAsync();
        Func<Task> fanOut = async () => await store.FanOutAsync(1);

        await fanOut.Should().ThrowAsync<PostgresException>();
        for (int i = 0; i < 2; i++)
        {
            await using NpgsqlCommand command = _schema.Source.CreateCommand(PostgreSqlWebhookDeliveryStore.Script());
            await command.ExecuteNonQueryAsync();
        }

        await fanOut.Should().NotThrowAsync();
    }

    [Fact]
    public async Task Nodes_that_start_together_make_the_tables_once()
    {
        Func<Task> start = () => Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(async () =>
            await new PostgreSqlWebhookDeliveryStore(new() { Name = "store", DataSource = _schema.Source }).PrepareAsync())));

        await start.Should().NotThrowAsync();
    }

    [Fact]
    public void The_data_source_is_the_registered_one_and_without_any_the_options_are_invalid()
    {
        using ServiceProvider with = new ServiceCollection().AddSingleton(_schema.Source).AddPostgreSqlWebhookDeliveryStore().BuildServiceProvider();
        using ServiceProvider without = new ServiceCollection().AddPostgreSqlWebhookDeliveryStore().BuildServiceProvider();

        IWebhookDeliveryStore store = with.GetRequiredService<IWebhookDeliveryStore>();
        Action missing = () => without.GetRequiredService<IWebhookDeliveryStore>();

        store.Should().BeOfType<PostgreSqlWebhookDeliveryStore>();
        missing.Should().Throw<OptionsValidationException>().WithMessage("*DataSource*");
    }

    [Fact]
    public async Task A_claim_of_a_long_backlog_reads_no_more_than_it_takes()
    {
        var store = new PostgreSqlWebhookDeliveryStore(new() { Name = "store", DataSource = _schema.Source });
        await store.PrepareAsync();
        for (int i = 0; i < 5; i++)
        {
            await store.InsertEndpointAsync(new(new WebhookEndpoint($"ep_{i}", "acme", "https://example.com/", [], true, null, 0, null, null, default), "secrets", 0));
        }

        await ExecuteAsync("INSERT INTO webhook_events (id, type, audience, payload) SELECT 'msg_' || n, 'a', 'acme', '' FROM generate_series(1, 4000) n");
        while (await store.FanOutAsync(1000) > 0)
        {
        }

        await ExecuteAsync("ANALYZE");
        await ExecuteAsync("SELECT pg_stat_reset()");
        await store.ClaimAsync(new(TimeSpan.FromMinutes(1), "", (_, _) => 2));
        long read = 0;
        for (int i = 0; i < 100 && read == 0; i++)
        {
            // Statistics are told a little later.
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, CancellationToken.None);
            await using NpgsqlCommand command = _schema.Source.CreateCommand("SELECT coalesce(sum(seq_tup_read) + sum(idx_tup_fetch), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'webhook_deliveries' AND schemaname = current_schema()");
            read = (long)(await command.ExecuteScalarAsync())!;
        }

        read.Should().BeInRange(1, 1000, "20 000 are due");
    }

    private async Task ExecuteAsync(string text)
    {
        await using NpgsqlCommand command = _schema.Source.CreateCommand(text);
        await command.ExecuteNonQueryAsync();
    }
}
