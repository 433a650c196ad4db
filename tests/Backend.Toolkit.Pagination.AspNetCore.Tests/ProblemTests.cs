using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Pagination.AspNetCore.Tests;

/// <summary>A bad cursor is never an error of the server, however the application handles its errors.</summary>
public sealed class ProblemTests
{
    public static TheoryData<string, string> Ways { get; } = new MatrixTheoryData<string, string>(
        ["nothing", "service", "failing service", "exception handler", "exception page", "status pages", "re-execution"],
        ["/orders", "/api-orders", "/plain-orders"]);

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task A_bad_cursor_and_a_bad_size_are_400_with_problem_details_where_the_application_has(string way, string path)
    {
        await using Server server = await StartAsync(way);

        Answer cursor = await server.GetAsync($"{path}?cursor=x");
        Answer size = await server.GetAsync($"{path}?size=-5");

        cursor.ShouldBeAProblem("invalid-cursor", "malformed");
        size.ShouldBeAProblem("invalid-page-size", "negative");
        size.Json.GetProperty("maxSize").GetInt32().Should().Be(5);
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("nothing")]
    [InlineData("service")]
    public async Task Who_accepts_only_pages_for_people_is_answered_all_the_same(string way)
    {
        await using Server server = await StartAsync(way);

        Answer answer = await server.GetAsync("/orders?cursor=x", request => request.Headers.Add("Accept", "text/html"));

        answer.ShouldBeAProblem("invalid-cursor", "malformed");
    }

    [Fact]
    public async Task The_applications_own_service_may_add_to_the_problem()
    {
        await using Server server = await StartAsync("service");

        Answer answer = await server.GetAsync("/orders?cursor=x");

        answer.Json.GetProperty("ours").GetString().Should().Be("yes");
    }

    [Fact]
    public async Task Without_a_service_the_problem_has_the_same_members()
    {
        await using Server with = await StartAsync("service"), without = await StartAsync("nothing");

        Answer one = await with.GetAsync("/orders?size=-1"), other = await without.GetAsync("/orders?size=-1");

        other.Json.EnumerateObject().Select(member => $"{member.Name}: {member.Value}").Should().BeEquivalentTo(
            one.Json.EnumerateObject().Where(member => member.Name is not ("ours" or "traceId")).Select(member => $"{member.Name}: {member.Value}"));
    }

    [Fact]
    public async Task A_configured_name_is_escaped_in_the_problem()
    {
        await using Server server = await StartAsync("nothing", o => o.SizeParameter = "si\"ze\r\n<");

        Answer answer = await server.GetAsync($"/orders?{Uri.EscapeDataString("si\"ze\r\n<")}=x");

        answer.ShouldBeAProblem("invalid-page-size", "malformed");
        answer.Json.GetProperty("detail").GetString().Should().Contain("'si\"ze\r\n<'");
    }

    [Fact]
    public async Task A_response_that_has_begun_is_not_answered_twice()
    {
        await using Server server = await Server.StartAsync(app => app.MapGet("/begun", async (PageQuery query, CursorPaginator paginator, HttpContext context) =>
        {
            await context.Response.WriteAsync("begun");
            await context.Response.Body.FlushAsync();
            return Order.Page(query, paginator).ToResult();
        }));

        Func<Task> read = () => server.GetAsync("/begun?cursor=x");

        await read.Should().ThrowAsync<HttpRequestException>();
        server.Errors.Should().ContainSingle().Which.Should().Contain("InvalidCursorException");
    }

    private static Task<Server> StartAsync(string way, Action<HttpPaginationOptions>? configure = null) => Server.StartAsync(
        app =>
        {
            switch (way)
            {
                case "exception handler":
                    app.UseExceptionHandler();
                    break;
                case "exception page":
                    app.UseDeveloperExceptionPage();
                    break;
                case "status pages":
                    app.UseStatusCodePages();
                    break;
                case "re-execution":
                    app.UseStatusCodePagesWithReExecute("/error", "?size=1");
                    break;
            }

            app.MapGet("/orders", (PageQuery query, CursorPaginator paginator) => Order.Page(query, paginator).ToResult());
            app.MapGet("/error", (PageQuery query) => "an error page");
            app.MapControllers();
        },
        services =>
        {
            Controllers.Add(services);
            services.AddHttpPagination(configure ?? (static _ => { }));
            if (way is "service" or "exception handler")
            {
                services.AddProblemDetails(o => o.CustomizeProblemDetails = context => context.ProblemDetails.Extensions["ours"] = "yes");
            }
            else if (way == "failing service")
            {
                services.AddProblemDetails(o => o.CustomizeProblemDetails = _ => throw new InvalidTimeZoneException("the application's own code"));
            }
        });
}
