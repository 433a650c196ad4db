using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Configuration.Memory;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.RetryPolicies.Tests;

public sealed class RegistrationTests
{
    private readonly LogList _log = new();
    private readonly InstantTime _time = new();
    private readonly MemoryConfigurationSource _source = new() { InitialData = new Dictionary<string, string?>() };

    [Fact]
    public async Task Unnamed_and_named_policies_are_singletons_of_their_own()
    {
        using IHost host = Host(services => services
            .AddRetryPolicy(o => o.MaxAttempts = 2)
            .AddRetryPolicy("payments", o => o.MaxAttempts = 4)
            .AddRetryPolicy("search"));

        await host.StartAsync();

        var plain = host.Services.GetRequiredService<RetryPolicy>();
        var payments = host.Services.GetRequiredKeyedService<RetryPolicy>("payments");
        host.Services.GetRequiredKeyedService<RetryPolicy>("payments").Should().BeSameAs(payments);
        (await Attempts(plain)).Should().Be(2);
        (await Attempts(payments)).Should().Be(4);
        (await Attempts(host.Services.GetRequiredKeyedService<RetryPolicy>("search"))).Should().Be(3);
    }

    [Fact]
    public async Task Policies_share_a_budget_from_the_container()
    {
        using IHost host = Host(services => services
            .AddRetryBudget("shared", o => o.MaxTokens = 4)
            .AddRetryPolicy("a", (o, provider) => o.Budget = provider.GetRequiredKeyedService<RetryBudget>("shared"))
            .AddRetryPolicy("b", (o, provider) => o.Budget = provider.GetRequiredKeyedService<RetryBudget>("shared"))
            .AddRetryBudget()
            .AddRetryBudget((o, _) => o.MaxTokens = 7)
            .AddRetryBudget("other", (o, _) => o.MaxTokens = 8)
            .AddRetryPolicy((o, provider) => o.Budget = provider.GetRequiredService<RetryBudget>()));
        await host.StartAsync();

        int first = await Attempts(host.Services.GetRequiredKeyedService<RetryPolicy>("a"));
        int second = await Attempts(host.Services.GetRequiredKeyedService<RetryPolicy>("b"));

        first.Should().Be(2, "2 of 4 tokens are left, and half is not enough");
        second.Should().Be(1);
        host.Services.GetRequiredKeyedService<RetryBudget>("shared").Tokens.Should().Be(1);
        host.Services.GetRequiredService<RetryBudget>().Tokens.Should().Be(7);
        host.Services.GetRequiredKeyedService<RetryBudget>("other").Tokens.Should().Be(8);
    }

    [Fact]
    public async Task The_time_provider_and_the_logger_come_from_the_container()
    {
        using IHost host = Host(services => services.AddRetryPolicy("payments", o => o.DelayHint = _ => throw new InvalidOperationException("bug")));
        await host.StartAsync();

        await Attempts(host.Services.GetRequiredKeyedService<RetryPolicy>("payments"));

        _time.Waits.Should().NotBeEmpty();
        _log.Entries.Should().Contain(entry => entry.Message.StartsWith("Retry policy 'payments': DelayHint threw"));
    }

    [Fact]
    public async Task Options_out_of_range_stop_the_start_with_all_problems_and_the_name()
    {
        using IHost host = Host(services => services.AddRetryPolicy("payments", o =>
        {
            o.MaxAttempts = 0;
            o.MaxDelayHint = TimeSpan.Zero;
        }));

        Func<Task> start = () => host.StartAsync();

        (await start.Should().ThrowAsync<OptionsValidationException>()).Which.Message.Should().Be(
            "payments: MaxAttempts must be between 1 and 100, but is 0.; payments: MaxDelayHint must be greater than 0 and at most 1.00:00:00, but is 00:00:00.");
    }

    [Fact]
    public async Task An_unnamed_budget_out_of_range_stops_the_start_too()
    {
        using IHost host = Host(services => services.AddRetryBudget(o => o.TokenRatio = double.NaN));

        Func<Task> start = () => host.StartAsync();

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage("default: TokenRatio must be between 0.001 and 1000, but is NaN.");
    }

    [Fact]
    public async Task Options_bind_from_configuration_under_the_same_name()
    {
        Set("Retry:payments:MaxAttempts", "5");
        Set("Retry:payments:BaseDelay", "00:00:01");
        Set("Retry:payments:Backoff", "Linear");
        Set("Retry:payments:Jitter", "None");
        Set("Budgets:shared:Rule", "Ratio");
        Set("Budgets:shared:RetryRatio", "0.5");
        using IHost host = BoundHost();
        await host.StartAsync();

        int attempts = await Attempts(host.Services.GetRequiredKeyedService<RetryPolicy>("payments"));

        attempts.Should().Be(5);
        _time.Waits.Select(wait => wait.TotalSeconds).Should().Equal(1, 2, 3, 4);
    }

    [Fact]
    public async Task A_valid_reload_reaches_the_live_policy_and_budget_which_keep_their_state()
    {
        using IHost host = BoundHost();
        await host.StartAsync();
        var policy = host.Services.GetRequiredKeyedService<RetryPolicy>("payments");
        var budget = host.Services.GetRequiredKeyedService<RetryBudget>("shared");
        await Attempts(policy);
        double spent = budget.Tokens;

        Reload(host, ("Retry:payments:MaxAttempts", "2"), ("Budgets:shared:MaxTokens", "100"));
        int attempts = await Attempts(policy);

        spent.Should().Be(7);
        attempts.Should().Be(2);
        budget.Tokens.Should().Be(68, "7 of 10 became 70 of 100, and two attempts failed");
        host.Services.GetRequiredKeyedService<RetryPolicy>("payments").Should().BeSameAs(policy);
        _log.Entries.Should().NotContain(entry => entry.Level >= LogLevel.Error);
    }

    [Fact]
    public async Task A_reload_keeps_the_policys_own_budget()
    {
        using IHost host = Host(services => services.AddRetryPolicy("payments").AddOptions<RetryPolicyOptions>("payments").BindConfiguration("Retry:payments"));
        await host.StartAsync();
        var policy = host.Services.GetRequiredKeyedService<RetryPolicy>("payments");
        await Attempts(policy);
        await Attempts(policy);

        Reload(host, ("Retry:payments:MaxAttempts", "6"));
        int attempts = await Attempts(policy);

        attempts.Should().Be(1, "five failures before the reload used the budget up");
    }

    [Fact]
    public async Task An_invalid_reload_keeps_the_last_good_options_and_logs_one_error_with_all_sentences()
    {
        Set("Retry:payments:MaxAttempts", "2");
        using IHost host = BoundHost();
        await host.StartAsync();
        var policy = host.Services.GetRequiredKeyedService<RetryPolicy>("payments");

        Reload(host, ("Retry:payments:MaxAttempts", "0"), ("Retry:payments:MaxDelayHint", "00:00:00"));
        int attempts = await Attempts(policy);
        int maxAttempts = host.Services.GetRequiredService<IOptionsMonitor<RetryPolicyOptions>>().Get("payments").MaxAttempts;

        attempts.Should().Be(2);
        maxAttempts.Should().Be(2);
        _log.Entries.Where(entry => entry.Level == LogLevel.Error).Select(entry => entry.Message).Should().Equal(
            "Retry options 'payments': the reloaded options are invalid, the last valid ones stay in force. payments: MaxAttempts must be between 1 and 100, but is 0.; "
            + "payments: MaxDelayHint must be greater than 0 and at most 1.00:00:00, but is 00:00:00.");
    }

    [Fact]
    public async Task After_an_invalid_reload_resolving_works_and_a_valid_reload_takes_hold()
    {
        using IHost host = BoundHost();
        await host.StartAsync();

        Reload(host, ("Retry:payments:MaxAttempts", "0"), ("Budgets:shared:MaxTokens", "not a number"));
        var policy = host.Services.GetRequiredKeyedService<RetryPolicy>("payments");
        double tokens = host.Services.GetRequiredKeyedService<RetryBudget>("shared").Tokens;
        int before = await Attempts(policy);
        Reload(host, ("Retry:payments:MaxAttempts", "2"), ("Budgets:shared:MaxTokens", "20"));
        int after = await Attempts(policy);

        tokens.Should().Be(10);
        before.Should().Be(3);
        after.Should().Be(2);
    }

    [Fact]
    public async Task Registering_twice_configures_twice_and_adds_one_service()
    {
        using IHost host = Host(services => services.AddRetryPolicy("payments", o => o.MaxAttempts = 9).AddRetryPolicy("payments", o => o.MaxAttempts = 2));
        await host.StartAsync();

        int attempts = await Attempts(host.Services.GetRequiredKeyedService<RetryPolicy>("payments"));

        attempts.Should().Be(2);
        host.Services.GetKeyedServices<RetryPolicy>("payments").Should().ContainSingle();
    }

    [Fact]
    public void A_missing_name_configuration_or_collection_is_an_argument_error()
    {
        var services = new ServiceCollection();

        ((Action)(() => services.AddRetryPolicy(" "))).Should().Throw<ArgumentException>();
        ((Action)(() => services.AddRetryBudget(""))).Should().Throw<ArgumentException>();
        ((Action)(() => services.AddRetryPolicy("a", (Action<RetryPolicyOptions, IServiceProvider>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => services.AddRetryBudget("a", (Action<RetryBudgetOptions, IServiceProvider>)null!))).Should().Throw<ArgumentNullException>();
        ((Action)(() => ((IServiceCollection)null!).AddRetryPolicy())).Should().Throw<ArgumentNullException>();
    }

    private IHost BoundHost() => Host(services =>
    {
        services.AddRetryBudget("shared").AddRetryPolicy("payments", (o, provider) => o.Budget = provider.GetRequiredKeyedService<RetryBudget>("shared"));
        services.AddOptions<RetryPolicyOptions>("payments").BindConfiguration("Retry:payments");
        services.AddOptions<RetryBudgetOptions>("shared").BindConfiguration("Budgets:shared");
    });

    private IHost Host(Action<IServiceCollection> configure)
    {
        HostApplicationBuilder builder = Microsoft.Extensions.Hosting.Host.CreateEmptyApplicationBuilder(null);
        builder.Configuration.Sources.Add(_source);
        builder.Logging.AddProvider(_log);
        builder.Services.AddSingleton<TimeProvider>(_time);
        configure(builder.Services);
        return builder.Build();
    }

    private void Set(string key, string value) => ((Dictionary<string, string?>)_source.InitialData!)[key] = value;

    private static void Reload(IHost host, params (string Key, string Value)[] values)
    {
        var configuration = (IConfigurationRoot)host.Services.GetRequiredService<IConfiguration>();
        foreach ((string key, string value) in values)
        {
            configuration[key] = value;
        }

        configuration.Reload();
    }

    private static async Task<int> Attempts(RetryPolicy policy)
    {
        int attempts = 0;
        Func<Task> call = () => policy.ExecuteAsync<int>(_ => throw new IOException($"{++attempts}")).AsTask();
        await call.Should().ThrowAsync<IOException>();
        return attempts;
    }
}
