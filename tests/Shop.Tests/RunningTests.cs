using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.RegularExpressions;
using Backend.Toolkit.Webhooks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace Shop.Tests;

/// <summary>How the shop starts and stops.</summary>
public sealed partial class RunningTests
{
    [Fact]
    public async Task A_second_shop_takes_a_free_port_when_the_usual_one_is_taken()
    {
        await using WebApplication first = ShopApplication.Build("--Logging:LogLevel:Default=None");
        await first.StartAsync();
        await using WebApplication second = ShopApplication.Build("--Logging:LogLevel:Default=None");

        await second.StartAsync();

        second.Urls.Should().ContainSingle().Which.Should().StartWith("http://127.0.0.1:").And.NotBe(first.Urls.Single());
    }

    [Theory]
    [InlineData("http://0.0.0.0:5080")]
    [InlineData("http://*:5080")]
    [InlineData("http://127.0.0.1:0;http://192.0.2.1:5080")]
    [InlineData("5080")]
    public void An_address_that_others_can_reach_is_refused(string urls)
    {
        Action build = () => ShopApplication.Build("--urls", urls);

        build.Should().Throw<ArgumentException>().WithMessage($"*{urls}*");
    }

    [Fact]
    public async Task Settings_out_of_range_stop_the_start_and_are_all_named()
    {
        Func<Task> start = () => RunningShop.StartAsync("--OutboundPolicies:payments:CircuitBreaker:ConsecutiveFailures=0", "--OutboundPolicies:payments:CircuitBreaker:BreakDuration=0");

        await start.Should().ThrowAsync<OptionsValidationException>().WithMessage("*payments: CircuitBreaker.ConsecutiveFailures*payments: CircuitBreaker.BreakDuration*");
    }

    [Theory]
    [InlineData("--redsi is no argument", "--redsi", "localhost:6379")]
    [InlineData("--help is no argument", "--help")]
    [InlineData("teapot is no argument", "teapot")]
    [InlineData("--data needs a value", "--data")]
    [InlineData("--data needs a value", "--data", "--urls", "http://127.0.0.1:0")]
    [InlineData(null, "--data", "folder", "--urls=http://127.0.0.1:0", "--RequestBudget:Maximum", "00:00:05", "--otlp", "--plain", "true")]
    [InlineData(null, "--otlp", "http://127.0.0.1:4317", "--postgres", "Host=localhost")]
    public void An_argument_that_means_nothing_is_refused(string? problem, params string[] args)
    {
        Action check = () => Arguments.Check(args);

        if (problem is null)
        {
            check.Should().NotThrow();
        }
        else
        {
            check.Should().Throw<ArgumentException>().WithMessage($"{problem}*");
        }
    }

    [Fact]
    public void It_listens_nowhere_beside_its_urls()
    {
        Action build = () => ShopApplication.Build("--urls=http://127.0.0.1:0", "--Kestrel:Endpoints:other:Url=http://0.0.0.0:0");

        build.Should().Throw<ArgumentException>().WithMessage("*Kestrel:Endpoints*");
    }

    [Fact]
    public void A_start_that_fails_leaves_no_folder()
    {
        string[] before = Directory.GetDirectories(Path.GetTempPath(), "shop-*");

        Action build = () => ShopApplication.Build("--urls=http://127.0.0.1:0", "--postgres=Host=127.0.0.1;Port=1;Username=nobody;Timeout=1");

        build.Should().Throw<Exception>();
        Directory.GetDirectories(Path.GetTempPath(), "shop-*").Should().BeSubsetOf(before);
    }

    [Fact]
    public async Task The_environment_has_settings_and_no_arguments()
    {
        Environment.SetEnvironmentVariable("PLAIN", "nonsense");
        Environment.SetEnvironmentVariable("PAYMENTS", "http://127.0.0.1:1");
        Environment.SetEnvironmentVariable("RequestBudget__Maximum", "00:00:07");
        try
        {
            await using RunningShop shop = await RunningShop.StartAsync();

            (await shop.OrderAsync()).StatusCode.Should().Be(HttpStatusCode.Created);
            shop.Services.GetRequiredService<IConfiguration>()["RequestBudget:Maximum"].Should().Be("00:00:07");
        }
        finally
        {
            Environment.SetEnvironmentVariable("PLAIN", null);
            Environment.SetEnvironmentVariable("PAYMENTS", null);
            Environment.SetEnvironmentVariable("RequestBudget__Maximum", null);
        }
    }

    [Fact]
    public async Task Payments_that_talks_nonsense_does_not_stop_the_shop()
    {
        await using WebApplication payments = await Loopback.StartAsync(null, context =>
        {
            context.Response.ContentType = "application/json; charset=bogus";
            return context.Response.WriteAsync("{}");
        });
        await using RunningShop shop = await RunningShop.StartAsync($"--payments={payments.Urls.First()}", $"--payments-secret={WebhookKey.NewSecret()}");

        (await shop.Services.GetRequiredService<Controls>().FaultAsync(CancellationToken.None)).Should().BeNull();
    }

    [Fact]
    public async Task Four_hundred_customers_at_once_are_served_at_the_pace_of_the_database_or_told_to_come_back()
    {
        // Much time, so that on a busy machine nobody is too late for a reason of its own.
        await using RunningShop shop = await RunningShop.StartAsync("--OutboundPolicies:payments:Budget:Total=00:00:20", "--RequestBudget:Maximum=00:00:30");
        using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(60) };

        HttpResponseMessage[] answers = await Task.WhenAll(Enumerable.Range(0, 400).Select(i => RunningShop.PostOrderAsync(client, new Uri(shop.Client.BaseAddress!, "orders"), $"{i}")));

        answers.Select(answer => answer.StatusCode).Should().OnlyContain(status => status == HttpStatusCode.Created || status == HttpStatusCode.ServiceUnavailable);
        answers.Count(answer => answer.StatusCode == HttpStatusCode.Created).Should().BeInRange(24 + 48, 399);
        answers.Where(answer => answer.StatusCode != HttpStatusCode.Created).Should().OnlyContain(answer => answer.Headers.RetryAfter!.Delta == TimeSpan.FromSeconds(1));
        (await shop.OrdersAsync()).Should().OnlyContain(order => order.Status == OrderStatus.Paid, "who is refused has no order");
    }

    [Fact]
    public async Task A_shop_told_to_stop_answers_what_it_has_begun_and_exits_with_0()
    {
        using Process shop = StartProcess("--OutboundPolicies:payments:Budget:Total=00:00:10", "--RequestBudget:Maximum=00:00:20");
        try
        {
            string address = await ReadAddressAsync(shop);
            string paymentsAddress = await ReadAddressAsync(shop);
            Task<string> rest = shop.StandardOutput.ReadToEndAsync();
            using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(15) };
            (await client.PostAsJsonAsync($"{paymentsAddress}/faults", new { mode = "slow", delayMs = 400 })).EnsureSuccessStatusCode();
            Task<HttpResponseMessage> order = RunningShop.PostOrderAsync(client, new Uri($"{address}/orders"), "one");
            await RealTime.UntilAsync(async () => (await client.GetFromJsonAsync<ChargeCount>($"{paymentsAddress}/charges"))!.Calls == 1, "the order is at payments");

            using Process kill = Process.Start("sh", ["-c", $"kill -TERM {shop.Id}"]);
            TimeSpan elapsed = await RealTime.MeasureAsync(() => shop.WaitForExitAsync());

            (await order).StatusCode.Should().Be(HttpStatusCode.Created);
            shop.ExitCode.Should().Be(0);
            elapsed.Should().BeLessThan(TimeSpan.FromSeconds(10));
            (await shop.StandardError.ReadToEndAsync()).Should().BeEmpty();
            await rest;
        }
        finally
        {
            shop.Kill(entireProcessTree: true);
        }
    }

    [Fact]
    public async Task A_shop_that_cannot_start_says_why_in_one_line_and_exits_with_1()
    {
        using Process shop = StartProcess("--OutboundPolicies:payments:Budget:Total=-00:00:05");
        try
        {
            await RealTime.MeasureAsync(() => shop.WaitForExitAsync());

            shop.ExitCode.Should().Be(1);
            (await shop.StandardError.ReadToEndAsync()).Trim().Should().StartWith("payments: Budget.Total must be").And.NotContain("\n");
        }
        finally
        {
            shop.Kill(entireProcessTree: true);
        }
    }

    [Theory]
    [InlineData("--export", "http://127.0.0.1:1")]
    [InlineData("--export=http://127.0.0.1:1")]
    public async Task An_export_of_a_shop_that_is_not_there_says_so_in_one_line_and_exits_with_1(params string[] settings)
    {
        using Process export = StartProcess(settings);
        try
        {
            await RealTime.MeasureAsync(() => export.WaitForExitAsync());

            export.ExitCode.Should().Be(1);
            (await export.StandardError.ReadToEndAsync()).Trim().Should().Contain("127.0.0.1:1").And.NotContain("\n");
            (await export.StandardOutput.ReadToEndAsync()).Should().BeEmpty();
        }
        finally
        {
            export.Kill(entireProcessTree: true);
        }
    }

    internal static Process StartProcess(params string[] settings) => Process.Start(
        new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Shop.dll"), "--urls=http://127.0.0.1:0", .. settings])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;

    internal static async Task<string> ReadAddressAsync(Process shop)
    {
        string? line = null;
        await RealTime.MeasureAsync(async () => line = await shop.StandardOutput.ReadLineAsync());
        return Address().Match(line ?? "").Value;
    }

    [GeneratedRegex(@"http://[^ ]+")]
    private static partial Regex Address();
}
