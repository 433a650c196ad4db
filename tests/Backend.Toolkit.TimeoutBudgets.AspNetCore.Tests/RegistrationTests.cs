using System.Collections.Concurrent;
using System.Globalization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

public sealed class RegistrationTests
{
    [Fact]
    public async Task Options_out_of_range_stop_the_host_and_are_all_told_in_every_culture()
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo("ar-SA");
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddTimeoutBudgets(o => (o.Maximum, o.MinimumBudget) = (TimeSpan.Zero, TimeSpan.FromSeconds(-3)));
        using IHost host = builder.Build();

        OptionsValidationException thrown = (await host.Awaiting(h => h.StartAsync()).Should().ThrowAsync<OptionsValidationException>()).Which;

        CultureInfo.CurrentCulture = before;
        thrown.Failures.Should().Equal(
            "request: Maximum must be greater than 0, or Timeout.InfiniteTimeSpan (-00:00:00.0010000), but is 00:00:00.",
            "request: MinimumBudget must be zero or greater, but is -00:00:03.");
    }

    [Fact]
    public void A_budget_must_have_a_name()
    {
        var options = new RequestBudgetOptions { Name = " " };

        options.Problems().Should().Equal("RequestBudgetOptions: Name must be not empty, but is ' '.");
    }

    [Fact]
    public void Options_that_nobody_validated_are_when_they_are_used()
    {
        ServiceProvider services = new ServiceCollection().Configure<RequestBudgetOptions>(o => o.Maximum = TimeSpan.Zero).BuildServiceProvider();

        Action build = () => new ApplicationBuilder(services).UseTimeoutBudgets().Build();

        build.Should().Throw<OptionsValidationException>().WithMessage("request: Maximum must be*");
    }

    [Fact]
    public async Task An_empty_container_is_enough()
    {
        using ServiceProvider services = new ServiceCollection().BuildServiceProvider();
        TimeSpan? total = null;
        RequestDelegate pipeline = Pipeline(services, () => total = TimeoutBudget.Current?.Total);
        var context = new DefaultHttpContext { Request = { Headers = { ["Timeout-Budget"] = "60000" } } };

        await pipeline(context);

        total.Should().Be(TimeSpan.FromMinutes(1));
    }

    [Fact]
    public async Task The_container_may_be_at_hand_and_options_of_another_name_do_not_matter()
    {
        using ServiceProvider services = new ServiceCollection()
            .AddSingleton(new FakeTimeProvider())
            .AddSingleton<TimeProvider>(provider => provider.GetRequiredService<FakeTimeProvider>())
            .AddTimeoutBudgets((o, provider) => o.Maximum = TimeSpan.FromSeconds(provider.GetRequiredService<FakeTimeProvider>() is null ? 1 : 4))
            .Configure<RequestBudgetOptions>("other", o => o.Maximum = TimeSpan.FromSeconds(9))
            .BuildServiceProvider();
        TimeSpan total = default;
        TimeSpan left = default;
        RequestDelegate pipeline = Pipeline(services, () =>
        {
            total = TimeoutBudget.Current!.Total;
            services.GetRequiredService<FakeTimeProvider>().Advance(TimeSpan.FromSeconds(1));
            left = TimeoutBudget.Current.Remaining;
        });

        await pipeline(new DefaultHttpContext());

        (total, left).Should().Be((TimeSpan.FromSeconds(4), TimeSpan.FromSeconds(3)));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_reload_holds_for_later_requests_and_an_invalid_one_keeps_the_last_good_and_is_told_once(bool added)
    {
        IConfigurationRoot configuration = new ConfigurationBuilder().AddInMemoryCollection([new("Maximum", "00:00:01")]).Build();
        var errors = new ConcurrentQueue<string>();
        var totals = new List<TimeSpan>();
        var services = new ServiceCollection();
        services.AddLogging(logging => logging.AddProvider(new ErrorProvider(errors)));
        services.AddOptions<RequestBudgetOptions>().Bind(configuration);
        if (added)
        {
            services.AddTimeoutBudgets();
        }

        using ServiceProvider provider = services.BuildServiceProvider();
        RequestDelegate pipeline = Pipeline(provider, () => totals.Add(TimeoutBudget.Current!.Total));

        foreach (string maximum in new[] { "00:00:01", "00:00:02", "-00:00:05", "00:00:03" })
        {
            configuration["Maximum"] = maximum;
            configuration.Reload();
            await pipeline(new DefaultHttpContext());
        }

        totals.Select(total => total.TotalSeconds).Should().Equal(1, 2, 2, 3);
        errors.Should().ContainSingle().Which.Should().Match("Request budgets 'request': the reloaded options are invalid*request: Maximum must be*but is -00:00:05.*");
    }

    private static RequestDelegate Pipeline(IServiceProvider services, Action handle)
    {
        IApplicationBuilder app = new ApplicationBuilder(services).UseTimeoutBudgets();
        app.Run(_ =>
        {
            handle();
            return Task.CompletedTask;
        });
        return app.Build();
    }

    private sealed class ErrorProvider(ConcurrentQueue<string> errors) : ILoggerProvider, ILogger
    {
        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            errors.Enqueue(formatter(state, exception));

        public void Dispose()
        {
        }
    }
}
