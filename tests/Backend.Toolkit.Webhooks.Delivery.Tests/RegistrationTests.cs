using Backend.Toolkit.Webhooks.Delivery.Sqlite;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

public sealed class RegistrationTests : IDisposable
{
    private readonly SqliteDatabase _database = new();

    public void Dispose() => _database.Dispose();

    [Fact]
    public async Task Without_a_store_the_host_does_not_start_and_names_both()
    {
        using IHost host = Host(services => services.AddWebhookDelivery());

        Func<Task> start = () => host.StartAsync();

        (await start.Should().ThrowAsync<InvalidOperationException>()).Which.Message.Should().Contain("AddSqliteWebhookDeliveryStore").And.Contain("AddPostgreSqlWebhookDeliveryStore");
    }

    [Fact]
    public async Task With_a_store_it_starts_and_one_worker_runs_however_often_it_is_added()
    {
        using IHost host = Host(services => services.AddWebhookDelivery().AddWebhookDelivery((o, _) => o.MaxConcurrency = 7).AddSqliteWebhookDeliveryStore(o => o.ConnectionString = _database.ConnectionString));

        await host.StartAsync();
        await host.StopAsync();

        host.Services.GetServices<IHostedService>().Should().ContainSingle();
        host.Services.GetRequiredService<IOptions<WebhookDeliveryOptions>>().Value.MaxConcurrency.Should().Be(7);
        host.Services.GetRequiredService<WebhookOutbox>().Should().NotBeNull();
        host.Services.GetRequiredService<WebhookEndpoints>().Should().NotBeNull();
        host.Services.GetRequiredService<WebhookDeliveries>().Should().NotBeNull();
    }

    [Fact]
    public async Task All_problems_are_told_when_the_host_starts()
    {
        using IHost host = Host(services => services.AddWebhookDelivery(o =>
        {
            o.Schedule = [TimeSpan.FromSeconds(1)];
            o.Lease = TimeSpan.FromSeconds(16);
            o.AllowedNetworks.Add("10.0.0.0/99");
            o.Protect = secret => secret;
        }).AddSqliteWebhookDeliveryStore());

        Func<Task> start = () => host.StartAsync();

        AggregateException failure = (await start.Should().ThrowAsync<AggregateException>("what the worker lacks hides nothing of the store")).Which;
        string[] problems = [.. failure.InnerExceptions.OfType<OptionsValidationException>().SelectMany(one => one.Failures)];
        problems.Should().Contain(problem => problem.Contains("ConnectionString")).And.Contain(problem => problem.Contains("Schedule")).And.Contain(problem => problem.Contains("Lease")).And.Contain(problem => problem.Contains("AllowedNetworks")).And.Contain(problem => problem.Contains("Protect"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("Data Source=:memory:")]
    public async Task A_store_without_a_file_stops_the_host(string connection)
    {
        using IHost host = Host(services => services.AddWebhookDelivery().AddSqliteWebhookDeliveryStore((o, _) => o.ConnectionString = connection));

        Func<Task> start = () => host.StartAsync();

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage("*ConnectionString*");
    }

    [Fact]
    public async Task Options_are_bound_and_a_reload_reaches_the_live_instances_unless_it_is_bad()
    {
        var source = new Dictionary<string, string?> { ["Hooks:AllowHttp"] = "false" };
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(source).Build();
        using IHost host = Host(services => services
            .AddWebhookDelivery(o => o.Deliver = false)
            .AddSqliteWebhookDeliveryStore(o => o.ConnectionString = _database.ConnectionString)
            .AddOptions<WebhookDeliveryOptions>().Bind(configuration.GetSection("Hooks")));
        await host.StartAsync();
        var endpoints = host.Services.GetRequiredService<WebhookEndpoints>();
        Func<Task> create = async () => await endpoints.CreateAsync("acme", "http://example.com/");

        await create.Should().ThrowAsync<WebhookEndpointRefusedException>();
        configuration["Hooks:AllowHttp"] = "true";
        configuration.Reload();
        await create.Should().NotThrowAsync();
        configuration["Hooks:AllowHttp"] = "false";
        configuration["Hooks:MaxConcurrency"] = "0";
        configuration.Reload();
        await create.Should().NotThrowAsync("the last good options stay");
        await host.StopAsync();
    }

    [Fact]
    public void A_schedule_that_is_bound_is_the_schedule_and_without_one_it_is_the_published()
    {
        var source = new Dictionary<string, string?> { ["Hooks:Schedule:0"] = "00:00:00", ["Hooks:Schedule:1"] = "00:00:10" };
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection(source).Build();
        using IHost host = Host(services => services.AddWebhookDelivery().AddOptions<WebhookDeliveryOptions>().Bind(configuration.GetSection("Hooks")));

        IReadOnlyList<TimeSpan> bound = host.Services.GetRequiredService<IOptions<WebhookDeliveryOptions>>().Value.Delays;

        bound.Should().Equal(TimeSpan.Zero, TimeSpan.FromSeconds(10));
        new WebhookDeliveryOptions().Delays.Should().HaveCount(10).And.EndWith(TimeSpan.FromHours(24));
    }

    private static IHost Host(Action<IServiceCollection> configure)
    {
        HostApplicationBuilder builder = Microsoft.Extensions.Hosting.Host.CreateEmptyApplicationBuilder(null);
        configure(builder.Services);
        return builder.Build();
    }
}
