using System.Globalization;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class TimeoutBudgetRegistrationTests
{
    [Fact]
    public async Task A_named_policy_is_a_keyed_singleton_with_its_name_options_and_clock()
    {
        var time = new FakeTimeProvider();
        await using ServiceProvider provider = new ServiceCollection()
            .AddSingleton<TimeProvider>(time)
            .AddTimeoutBudget("checkout", o => o.Total = TimeSpan.FromSeconds(2))
            .AddTimeoutBudget("search", (o, services) => o.Total = services.GetRequiredService<Settings>().Total)
            .AddSingleton(new Settings(TimeSpan.FromSeconds(5)))
            .AddTimeoutBudget(o => o.Total = TimeSpan.FromSeconds(9))
            .BuildServiceProvider();

        var checkout = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout");
        var search = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("search");
        var plain = provider.GetRequiredService<TimeoutBudgetPolicy>();
        Task expiring = checkout.ExecuteAsync(token => Task.Delay(Timeout.InfiniteTimeSpan, time, token), CancellationToken.None).AsTask();
        time.Advance(TimeSpan.FromSeconds(2));

        provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout").Should().BeSameAs(checkout);
        (checkout.Name, search.Name, plain.Name).Should().Be(("checkout", "search", "default"));
        (await TotalOf(search)).Should().Be(TimeSpan.FromSeconds(5));
        (await TotalOf(plain)).Should().Be(TimeSpan.FromSeconds(9));
        (await expiring.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("checkout");
    }

    [Fact]
    public async Task The_plain_policy_may_be_configured_with_the_container_at_hand()
    {
        await using ServiceProvider provider = new ServiceCollection()
            .AddSingleton(new Settings(TimeSpan.FromSeconds(5)))
            .AddTimeoutBudget((o, services) => o.Total = services.GetRequiredService<Settings>().Total)
            .BuildServiceProvider();

        (await TotalOf(provider.GetRequiredService<TimeoutBudgetPolicy>())).Should().Be(TimeSpan.FromSeconds(5));
    }

    [Fact]
    public async Task Options_out_of_range_stop_the_host_at_start_up_each_with_the_name_of_its_policy()
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddTimeoutBudget("checkout", o => o.Total = TimeSpan.FromSeconds(-3));
        builder.Services.AddTimeoutBudget("search", o => o.Total = TimeSpan.MinValue);
        using IHost host = builder.Build();

        AggregateException thrown = (await host.Awaiting(h => h.StartAsync()).Should().ThrowAsync<AggregateException>()).Which;

        thrown.InnerExceptions.Should().AllBeOfType<OptionsValidationException>();
        thrown.InnerExceptions.Select(inner => inner.Message).Should().BeEquivalentTo(
            "checkout: Total must be zero, greater than 0, or Timeout.InfiniteTimeSpan (-00:00:00.0010000), but is -00:00:03.",
            "search: Total must be zero, greater than 0, or Timeout.InfiniteTimeSpan (-00:00:00.0010000), but is -10675199.02:48:05.4775808.");
    }

    [Fact]
    public void The_constructor_throws_the_same_sentences()
    {
        Action create = () => _ = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Total = TimeSpan.FromSeconds(-3) });

        create.Should().Throw<OptionsValidationException>().WithMessage("TimeoutBudgetOptions: Total must be zero,*but is -00:00:03.");
    }

    [Fact]
    public async Task A_reload_reaches_the_live_policy()
    {
        (ServiceProvider provider, IConfigurationRoot configuration, _) = Configured();
        await using ServiceProvider disposed = provider;
        var policy = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout");
        TimeSpan before = await TotalOf(policy);

        configuration["Budgets:Total"] = "00:00:07";
        configuration.Reload();

        before.Should().Be(TimeSpan.FromSeconds(3));
        (await TotalOf(policy)).Should().Be(TimeSpan.FromSeconds(7));
    }

    [Fact]
    public async Task An_invalid_reload_keeps_the_last_good_options_and_logs_one_error_with_the_sentences()
    {
        (ServiceProvider provider, IConfigurationRoot configuration, RecordingLogger<TimeoutBudgetPolicy> log) = Configured();
        await using ServiceProvider disposed = provider;
        var policy = provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout");

        configuration["Budgets:Total"] = "-00:00:07";
        configuration.Reload();

        (await TotalOf(policy)).Should().Be(TimeSpan.FromSeconds(3));
        provider.GetRequiredService<IOptionsMonitor<TimeoutBudgetOptions>>().Get("checkout").Total.Should().Be(TimeSpan.FromSeconds(3));
        provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout").Should().BeSameAs(policy);
        (LogLevel level, string text) = log.Entries.Should().ContainSingle().Subject;
        level.Should().Be(LogLevel.Error);
        text.Should().Contain("checkout: Total must be zero").And.Contain("-00:00:07");
    }

    [Fact]
    public async Task A_policy_that_is_first_resolved_after_an_invalid_reload_has_the_last_good_options()
    {
        (ServiceProvider provider, IConfigurationRoot configuration, _) = Configured();
        await using ServiceProvider disposed = provider;
        _ = provider.GetRequiredService<IOptionsMonitor<TimeoutBudgetOptions>>().Get("checkout");

        configuration["Budgets:Total"] = "-00:00:07";
        configuration.Reload();

        (await TotalOf(provider.GetRequiredKeyedService<TimeoutBudgetPolicy>("checkout"))).Should().Be(TimeSpan.FromSeconds(3));
    }

    [Theory]
    [InlineData("th-TH")]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void What_it_says_does_not_depend_on_the_culture(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = new CultureInfo(culture);
        try
        {
            string[] problems = [.. new TimeoutBudgetOptions { Name = "ı", Total = TimeSpan.FromMilliseconds(-1.5) }.Problems()];
            string message = new TimeoutBudgetExceededException("checkout", TimeSpan.FromMilliseconds(1_500), TimeSpan.FromMilliseconds(1_501)).Message;

            problems.Should().Equal("ı: Total must be zero, greater than 0, or Timeout.InfiniteTimeSpan (-00:00:00.0010000), but is -00:00:00.0015000.");
            message.Should().Be("The timeout budget 'checkout' of 00:00:01.5000000 is exceeded after 00:00:01.5010000.");
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Fact]
    public void Bad_arguments_are_argument_errors()
    {
        var services = new ServiceCollection();

        services.Invoking(s => s.AddTimeoutBudget("")).Should().Throw<ArgumentException>();
        services.Invoking(s => s.AddTimeoutBudget(" ", (_, _) => { })).Should().Throw<ArgumentException>();
        services.Invoking(s => s.AddTimeoutBudget((Action<TimeoutBudgetOptions, IServiceProvider>)null!)).Should().Throw<ArgumentNullException>();
        services.Invoking(s => s.AddTimeoutBudget("x", (Action<TimeoutBudgetOptions, IServiceProvider>)null!)).Should().Throw<ArgumentNullException>();
        services.Invoking(_ => new TimeoutBudgetPolicy(null!)).Should().Throw<ArgumentNullException>();
        services.Invoking(_ => TimeoutBudget.Start(TimeSpan.Zero, null!)).Should().Throw<ArgumentNullException>();
    }

    private static ValueTask<TimeSpan> TotalOf(TimeoutBudgetPolicy policy) =>
        policy.ExecuteAsync(_ => new ValueTask<TimeSpan>(TimeoutBudget.Current!.Total), CancellationToken.None);

    private static (ServiceProvider Provider, IConfigurationRoot Configuration, RecordingLogger<TimeoutBudgetPolicy> Log) Configured()
    {
        var log = new RecordingLogger<TimeoutBudgetPolicy>();
        IConfigurationRoot configuration = new ConfigurationBuilder()
            .AddInMemoryCollection(new Dictionary<string, string?> { ["Budgets:Total"] = "00:00:03" })
            .Build();
        var services = new ServiceCollection();
        services.AddSingleton<IConfiguration>(configuration).AddSingleton<ILogger<TimeoutBudgetPolicy>>(log).AddTimeoutBudget("checkout");
        services.AddOptions<TimeoutBudgetOptions>("checkout").BindConfiguration("Budgets");
        return (services.BuildServiceProvider(), configuration, log);
    }

    private sealed record Settings(TimeSpan Total);
}
