using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Configuration.Memory;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

public sealed class RegistrationTests
{
    private readonly LogList _log = new();
    private readonly FakeTimeProvider _time = new();
    private readonly MemoryConfigurationSource _source = new() { InitialData = new Dictionary<string, string?>() };

    private IHost Host(Action<IServiceCollection> configure, string environment = "Production")
    {
        HostApplicationBuilder builder = Microsoft.Extensions.Hosting.Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings { EnvironmentName = environment });
        builder.Configuration.Sources.Add(_source);
        builder.Logging.AddProvider(_log);
        builder.Services.AddSingleton<TimeProvider>(_time);
        configure(builder.Services);
        return builder.Build();
    }

    private static async Task<int> RunAsync(IdempotentExecutor executor, int value, string key = "key") =>
        await executor.ExecuteAsync(key, Array.Empty<byte>(), (_, _) => new ValueTask<int>(value), Json.Default.Int32);

    [Fact]
    public async Task Unnamed_and_named_executors_are_singletons_whose_keys_never_meet()
    {
        using IHost host = Host(services => services
            .AddIdempotency(o => o.MaxOutcomeBytes = 1)
            .AddIdempotency("orders", o => o.MaxOutcomeBytes = 2)
            .AddIdempotency("refunds", (o, provider) => o.MaxOutcomeBytes = provider.GetHashCode() > 0 ? 3 : 4)
            .AddIdempotency((o, _) => o.Retention = TimeSpan.FromHours(2)));
        await host.StartAsync();

        var plain = host.Services.GetRequiredService<IdempotentExecutor>();
        var orders = host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders");
        var refunds = host.Services.GetRequiredKeyedService<IdempotentExecutor>("refunds");

        host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders").Should().BeSameAs(orders);
        (plain.Name, plain.MaxOutcomeBytes, plain.Retention).Should().Be(("default", 1, TimeSpan.FromHours(2)));
        (orders.Name, orders.MaxOutcomeBytes, refunds.Name).Should().Be(("orders", 2, "refunds"));
        plain.Store.Should().BeSameAs(orders.Store).And.BeOfType<MemoryIdempotencyStore>();
        (await RunAsync(orders, 1), await RunAsync(refunds, 2), await RunAsync(orders, 3)).Should().Be((1, 2, 1));
    }

    [Fact]
    public async Task An_executor_takes_the_store_of_its_name_else_the_plain_one()
    {
        using IHost host = Host(services => services
            .AddMemoryIdempotencyStore(o => o.MaxRecords = 1)
            .AddMemoryIdempotencyStore((o, _) => o.MaxBytes = 100)
            .AddMemoryIdempotencyStore("orders", o => o.MaxRecords = 2)
            .AddMemoryIdempotencyStore("orders", (o, _) => o.MaxBytes = 100)
            .AddIdempotency("orders")
            .AddIdempotency("refunds")
            .AddIdempotency());
        await host.StartAsync();

        var orders = host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders");
        var refunds = host.Services.GetRequiredKeyedService<IdempotentExecutor>("refunds");

        orders.Store.Should().BeSameAs(host.Services.GetRequiredKeyedService<IIdempotencyStore>("orders"));
        refunds.Store.Should().BeSameAs(host.Services.GetRequiredService<IIdempotencyStore>()).And.NotBeSameAs(orders.Store);
        host.Services.GetRequiredService<IdempotentExecutor>().Store.Should().BeSameAs(refunds.Store);
        await RunAsync(refunds, 1, "a");
        Func<Task> full = () => RunAsync(refunds, 1, "b");
        await full.Should().ThrowAsync<IdempotencyStoreException>();
        _log.Entries.Should().NotContain(entry => entry.Id == 2, "memory was asked for");
        _log.Entries.Should().Contain(entry => entry.Id == 8).And.NotContain(entry => entry.Id == 3, "the store has told it");
    }

    [Theory]
    [InlineData("Production", true)]
    [InlineData("Staging", true)]
    [InlineData("Development", false)]
    public async Task Memory_that_nobody_asked_for_is_warned_of_outside_development(string environment, bool warned)
    {
        using IHost host = Host(services => services.AddIdempotency("orders"), environment);
        await host.StartAsync();

        host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders");

        _log.Entries.Where(entry => entry.Level == LogLevel.Warning).Select(entry => entry.Message.StartsWith("Idempotency 'orders' keeps its records in the memory of this process", StringComparison.Ordinal))
            .Should().Equal(warned ? [true] : []);
    }

    [Fact]
    public async Task The_time_provider_comes_from_the_container()
    {
        using IHost host = Host(services => services.AddIdempotency("orders", o => o.Retention = TimeSpan.FromHours(1)));
        await host.StartAsync();
        var orders = host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders");
        await RunAsync(orders, 1);

        _time.Advance(TimeSpan.FromHours(1));

        (await RunAsync(orders, 2)).Should().Be(2);
    }

    [Fact]
    public async Task Options_out_of_range_stop_the_start_with_all_problems_and_the_name()
    {
        using IHost host = Host(services => services.AddIdempotency("orders", o => (o.Lease, o.MaxWait) = (TimeSpan.Zero, TimeSpan.Zero)));

        Func<Task> start = () => host.StartAsync();

        (await start.Should().ThrowAsync<OptionsValidationException>()).Which.Message.Should().Be(
            "orders: Lease must be between 00:00:00.1000000 and 1.00:00:00, but is 00:00:00.; orders: MaxWait must be greater than 0 and at most 01:00:00, but is 00:00:00.");
    }

    [Fact]
    public async Task A_store_out_of_range_stops_the_start_too()
    {
        using IHost host = Host(services => services.AddMemoryIdempotencyStore(o => o.MaxRecords = 0));

        Func<Task> start = () => host.StartAsync();

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage("default: MaxRecords must be between 1 and 100000000, but is 0.");
    }

    [Fact]
    public async Task Options_bind_and_a_reload_keeps_what_is_stored()
    {
        Set("Orders:Retention", "01:00:00");
        Set("Orders:MaxOutcomeBytes", "10");
        Set("Orders:Duplicates", "WaitAndReplay");
        Set("Store:MaxRecords", "1");
        using IHost host = BoundHost();
        await host.StartAsync();
        var orders = host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders");
        await RunAsync(orders, 1);
        Func<Task> full = () => RunAsync(orders, 2, "other");
        await full.Should().ThrowAsync<IdempotencyStoreException>();

        Set("Orders:MaxOutcomeBytes", "20");
        Set("Store:MaxRecords", "2");
        Reload(host);

        (orders.Retention, orders.MaxOutcomeBytes).Should().Be((TimeSpan.FromHours(1), 20));
        (await RunAsync(orders, 3)).Should().Be(1);
        (await RunAsync(orders, 2, "other")).Should().Be(2);
    }

    [Fact]
    public async Task An_invalid_reload_is_told_once_and_the_last_valid_options_stay()
    {
        Set("Orders:MaxOutcomeBytes", "10");
        using IHost host = BoundHost();
        await host.StartAsync();
        var orders = host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders");

        Set("Orders:MaxOutcomeBytes", "-1");
        Reload(host);
        Action resolve = () => host.Services.GetRequiredService<IOptionsMonitor<IdempotencyOptions>>().Get("orders");

        resolve.Should().NotThrow();
        orders.MaxOutcomeBytes.Should().Be(10);
        _log.Entries.Should().ContainSingle(entry => entry.Level == LogLevel.Error).Which.Message.Should().Be(
            "Idempotency options 'orders': the reloaded options are invalid, the last valid ones stay in force. orders: MaxOutcomeBytes must be between 0 and 16777216, but is -1.");
    }

    [Fact]
    public async Task A_reload_before_the_first_resolve_is_seen()
    {
        Set("Orders:MaxOutcomeBytes", "10");
        using IHost host = BoundHost();
        await host.StartAsync();

        Set("Orders:MaxOutcomeBytes", "20");
        Reload(host);

        host.Services.GetRequiredKeyedService<IdempotentExecutor>("orders").MaxOutcomeBytes.Should().Be(20);
    }

    [Fact]
    public void Missing_arguments_are_told_at_once()
    {
        var services = new ServiceCollection();
        Action[] calls =
        [
            () => services.AddIdempotency((Action<IdempotencyOptions, IServiceProvider>)null!),
            () => services.AddIdempotency("a", (Action<IdempotencyOptions, IServiceProvider>)null!),
            () => services.AddIdempotency(" "),
            () => services.AddIdempotency(" ", (_, _) => { }),
            () => services.AddMemoryIdempotencyStore((Action<MemoryIdempotencyStoreOptions, IServiceProvider>)null!),
            () => services.AddMemoryIdempotencyStore("a", (Action<MemoryIdempotencyStoreOptions, IServiceProvider>)null!),
            () => services.AddMemoryIdempotencyStore(" "),
            () => ((IServiceCollection)null!).AddIdempotency(),
            () => ((IServiceCollection)null!).AddMemoryIdempotencyStore(),
        ];

        calls.Should().AllSatisfy(call => call.Should().Throw<ArgumentException>());
        services.Should().BeEmpty();
    }

    private IHost BoundHost() => Host(services =>
    {
        services.AddMemoryIdempotencyStore().AddIdempotency("orders");
        services.AddOptions<MemoryIdempotencyStoreOptions>().BindConfiguration("Store");
        services.AddOptions<IdempotencyOptions>("orders").BindConfiguration("Orders");
    });

    private void Set(string key, string value) => ((Dictionary<string, string?>)_source.InitialData!)[key] = value;

    private void Reload(IHost host)
    {
        var provider = ((IConfigurationRoot)host.Services.GetRequiredService<IConfiguration>()).Providers.OfType<MemoryConfigurationProvider>().Last();
        foreach ((string key, string? value) in _source.InitialData!)
        {
            provider.Set(key, value);
        }

        ((IConfigurationRoot)host.Services.GetRequiredService<IConfiguration>()).Reload();
    }
}
